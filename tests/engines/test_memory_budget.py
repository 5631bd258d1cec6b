"""What prediction takes is computed honestly, and kept within a limit."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import metaprompts
from metaprompts.engines import memory_budget
from metaprompts.engines.memory_budget import (
    Budget,
    Work,
    automatic_limit,
    choose,
    encoder_bytes,
    view_work,
    weight_bytes,
)
from metaprompts.errors import InputError
from metaprompts.models.config import Prompts
from metaprompts.tasks import Depth
from metaprompts.utils.byte_size import parse_bytes
from small import small_model

SIZE = (512, 128)

# Prints by how many bytes memory grew at most while an image was encoded.
_GROWTH = """
import sys
import torch
from pathlib import Path
import metaprompts

def memory(name):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024

encoder = metaprompts.load("micro-depth", "cpu").latent_encoder
encoder(torch.rand(1, 3, 64, 64))
encoder.rows = int(sys.argv[1]) or None
images = torch.rand(1, 3, 512, 512)
before = memory("VmRSS")
encoder(images)
print(memory("VmHWM") - before)
"""


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("6.5 GiB", 13 * 2**29), ("900mb", 9 * 10**8), ("12345", 12345), ("1kib", 1024), ("5B", 5)],
)
def test_amounts_of_memory(text: str, size: int) -> None:
    assert parse_bytes(text, "--size") == size


@pytest.mark.parametrize("text", ["", "GB", "8 G B", "8XB", "-3GB", "0", "nan"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(InputError, match=r"--size is .*; expected bytes, or a number with a unit, such as 8GB"):
        parse_bytes(text, "--size")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.full
@pytest.mark.parametrize("rows", [None, 64, 16])
def test_the_encoder_takes_what_was_computed(rows: int | None) -> None:
    """Large blocks are given back, as they are for large models; otherwise glibc keeps up to half as much of strips."""
    words = [sys.executable, "-c", _GROWTH, str(rows or 0)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    measured = int(subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout)

    computed = encoder_bytes(metaprompts.load("micro-depth", "cpu"), (512, 512), rows)

    assert 0.7 * computed < measured < computed


@pytest.mark.slow
def test_strips_take_less_and_less() -> None:
    model = metaprompts.load("micro-segmentation", "cpu")

    sizes = [encoder_bytes(model, (512, 128), rows) for rows in (None, 256, 128, 64, 32)]

    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(view_work(model, (512, 128)).encoder, rel=0.02)


@pytest.mark.slow
def test_computing_leaves_the_model_as_it_was() -> None:
    model = small_model("depth").train()
    model.latent_encoder.rows = 7

    view_work(model, (64, 64))

    assert model.training
    assert model.latent_encoder.rows == 7


@pytest.mark.slow
def test_half_precision_takes_about_half() -> None:
    single, half = (metaprompts.load("micro-segmentation", "cpu", dtype) for dtype in (None, torch.bfloat16))
    single.latent_encoder.precise = False

    whole = view_work(single, (256, 256))

    assert view_work(half, (256, 256)).encoder == pytest.approx(whole.encoder / 2, rel=0.05)
    assert weight_bytes(half) == pytest.approx(weight_bytes(single) / 2, rel=0.01)


@pytest.mark.slow
def test_captions_are_counted_in() -> None:
    task = Depth(max_depth_m=10.0, filters=4, width=8)
    config = metaprompts.MetaPromptModel.from_backbone("random:micro", task=task).config
    captioned = metaprompts.MetaPromptModel(replace(config, prompts=Prompts(kind="caption", count=5)))

    assert view_work(captioned, (64, 64)).rest > 0


@pytest.fixture(scope="module")
def embedded() -> metaprompts.MetaPromptModel:
    return metaprompts.load("micro-segmentation", "cpu")


@pytest.fixture(scope="module")
def work(embedded: metaprompts.MetaPromptModel) -> Work:
    return view_work(embedded, SIZE)


class TestChoice:
    @pytest.fixture
    def model(
        self, embedded: metaprompts.MetaPromptModel, work: Work, monkeypatch: pytest.MonkeyPatch
    ) -> metaprompts.MetaPromptModel:
        """The model, whose views are not counted anew for each test."""
        whole = memory_budget.view_work
        monkeypatch.setattr(
            memory_budget, "view_work", lambda other, size: work if size == SIZE else whole(other, size)
        )
        return embedded

    def needed(self, model: metaprompts.MetaPromptModel, work: Work, views: int) -> int:
        return 650 * 10**6 + weight_bytes(model) + work.most + (views - 1) * work.of_view

    @pytest.mark.slow
    def test_everything_fits(self, model: metaprompts.MetaPromptModel, work: Work) -> None:
        chosen = choose(model, SIZE, limit=10**12, most=8)

        assert (chosen.batch, chosen.rows) == (8, None)

    def test_as_many_views_as_fit(self, model: metaprompts.MetaPromptModel, work: Work) -> None:
        chosen = choose(model, SIZE, limit=self.needed(model, work, 4) - 1, most=8)

        assert (chosen.batch, chosen.rows) == (3, None)
        assert chosen.needed == self.needed(model, work, 3)

    def test_strips_where_a_single_view_does_not_fit(self, model: metaprompts.MetaPromptModel, work: Work) -> None:
        limit = self.needed(model, work, 1) - 1

        chosen = choose(model, SIZE, limit=limit, most=8)

        assert chosen.batch == 1
        assert chosen.rows == 256
        assert chosen.needed <= limit

    def test_what_the_image_takes_is_taken_off(self, model: metaprompts.MetaPromptModel, work: Work) -> None:
        chosen = choose(model, SIZE, limit=self.needed(model, work, 1), reserved=work.encoder // 2)

        assert chosen.rows is not None
        assert chosen.rows < 256

    @pytest.mark.slow
    def test_says_the_least_where_nothing_fits(self, model: metaprompts.MetaPromptModel) -> None:
        with pytest.raises(
            InputError, match=r"512x128 pixels at a time needs at least 0\.\d\d GB, but the limit is 0\.50 GB"
        ):
            choose(model, SIZE, limit=5 * 10**8)

    def test_a_budget_sets_the_strips(self, model: metaprompts.MetaPromptModel, work: Work) -> None:
        bounded = Budget(model, self.needed(model, work, 1) - 1, most=8)

        assert bounded.batch(SIZE) == 1
        assert model.latent_encoder.rows == 256
        assert bounded.batch((64, 64)) == 8
        assert model.latent_encoder.rows is None

    def test_no_limit_is_no_limit(self, model: metaprompts.MetaPromptModel) -> None:
        assert Budget(model, None, most=8).batch((10**5, 10**5)) == 8


def test_shared_weights_are_counted_once() -> None:
    model = small_model("depth")

    assert weight_bytes(model, model) == weight_bytes(model)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="memory is read from /proc")
def test_what_is_free_is_the_limit() -> None:
    limit = automatic_limit(small_model("depth"))

    assert limit is not None
    assert limit > 10**8
