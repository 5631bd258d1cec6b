"""Whatever a file holds, a reader returns a value or says in one line what is wrong, in little time and memory."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from fuzz.mutations import byte_edits, change_bytes, change_json, json_edits
from fuzz.readers import all_readers
from fuzz.workers import REFUSED, VALUE, Worker

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs fork, and /proc")

NAMES = (
    "image_png image_rgba image_palette image_jpeg image_bmp image_tiff image_webp image_gif "
    "image_deep mask_gray mask_palette mask_deep depth_png depth_npy depth_npz depth_pfm depth_tiff coco coco_bytes "
    "detections boxes boxes_found captions captions_bytes lists recipe_toml recipe_json study log encodings "
    "captions_kept config model_weights encoder safetensors ckpt pth released backbone_unet backbone_vae backbone_bin "
    "shards_index shards_index_bytes shards_tar checkpoint records evaluation"
).split()
SLOW = ("config", "model_weights", "backbone_unet", "backbone_vae", "backbone_bin")
"""Readers that build networks: half a second each time."""

# Inputs of each reader: together 200 and more, or 2,000 and more.
FEW, FEW_OF_SLOW, MANY = 5, 2, 43


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return all_readers(tmp_path_factory.mktemp("readers"))


def test_the_list_of_readers_is_whole(readers):
    assert sorted(readers) == sorted(NAMES)


def test_there_are_as_many_inputs_as_is_said():
    assert FEW * (len(NAMES) - len(SLOW)) + FEW_OF_SLOW * len(SLOW) >= 200
    assert MANY * len(NAMES) >= 2000


def check(reader, folder, inputs):
    """Change a reader's file so often; the first change that it does not take as it should fails."""
    for name, content in reader.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    worker = Worker(reader.read)
    edits, change = (json_edits(), change_json) if reader.is_json else (byte_edits(), change_bytes)

    @settings(
        max_examples=inputs,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(edits=edits)
    def run(edits):
        changed = change(reader.files[reader.target], edits)
        (folder / reader.target).write_bytes(changed)
        answer = worker.answer(folder)
        assert answer in (VALUE, REFUSED), f"{answer}; {reader.target} was {changed[:2000]!r}"

    try:
        assert worker.answer(folder) == (VALUE if reader.is_valid else REFUSED)
        run()
    finally:
        worker.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_a_value_or_one_line(readers, name, tmp_path):
    check(readers[name], tmp_path, FEW_OF_SLOW if name in SLOW else FEW)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_two_thousand_changed_files(readers, name, tmp_path):
    check(readers[name], tmp_path, MANY)
