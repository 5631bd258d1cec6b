"""However a step is split over processes and passes, it learns the same."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from killing import Commands
from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe
from metaprompts.recipes.registry import recipe_names
from metaprompts.training.batch_plan import BatchPlan, batch_plan
from second_encoders import second_folder
from training.images import made_recipe

BATCH = ("--training.batch_size", "4", "--training.loss_group_size", "2", "--training.steps", "5")
RARELY = ("--training.validate_every", "100", "--training.num_threads", "1")


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """Trains a task so many processes wide, and gives the folder and what was said; the same words only once."""
    folder = tmp_path_factory.mktemp("together")
    commands = Commands(folder / "log.txt", ["metaprompts.training.loop", "torch.distributed.fsdp"])
    finished = {}

    def run(task, processes, *words):
        key = (task, processes, words)
        if key not in finished:
            out = folder / str(len(finished))
            commands.log.write_text("")
            code, _ = commands.run(train_words(folder, task, images, out, *words), processes=processes)
            said = commands.log.read_text()
            assert code == 0, said[-3000:]
            finished[key] = out, said
        return finished[key]

    yield run
    commands.close()


def train_words(folder, task, images, out, *words):
    made = made_recipe(task, images, out, *BATCH, *RARELY, *words)
    path = folder / f"{out.name}.json"
    path.write_text(json.dumps(made.to_dict()))
    return ["train", str(path), "--resume", "auto"]


def train_command(folder, task, images, out, processes, *words):
    """As a user would, in processes that import everything anew."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*launcher, "-m", "metaprompts", *train_words(folder, task, images, out, *words)]


def furthest(first, second):
    """The largest difference of a weight, or of batch norm's statistics relative to their size."""
    one, other = (load_file(out / "last/model.safetensors") for out in (first, second))
    assert one.keys() == other.keys()
    return max(difference(name, one[name].double(), other[name].double()) for name in one)


def difference(name, one, other):
    scale = one.abs().max().clamp_min(1) if ".running_" in name else 1
    return ((one - other).abs().max() / scale).item()


WAYS = {
    "two passes": (1, "--training.micro_batch_size", "2"),
    "two processes": (2,),
    "two processes, model split": (2, "--training.fsdp", "true"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow
def test_a_step_learns_the_same_however_it_is_split(trained, way):
    processes, *words = WAYS[way]
    frozen = ("--training.batch_norm", "frozen")
    whole, _ = trained("depth", 1, *frozen)
    split, said = trained("depth", processes, *frozen, *words)
    assert furthest(whole, split) < 1e-6
    (line,) = [line for line in said.splitlines() if line.startswith("a step: ")]
    passes = "2 passes" if way == "two passes" else "1 pass"
    assert line == f"a step: 4 images = {processes} process{'es' if processes > 1 else ''} x {passes} x 2; " + (
        "2 share a loss"
    )
    one, other = (json.loads((out / "metrics.json").read_text())["best"] for out in (whole, split))
    assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.full
@pytest.mark.parametrize("way", ["two processes", "two processes, model split"])
def test_a_second_encoder_learns_the_same_in_two_processes(trained, way):
    second = ("--backbone.second", second_folder("dinov2"), "--optimizer.lr", "0.001")
    second += ("--training.batch_norm", "frozen")
    alone, _ = trained("depth", 1, *second)
    processes, *words = WAYS[way]
    together, _ = trained("depth", processes, *words, *second)
    assert furthest(alone, together) < 1e-4
    weights = load_file(together / "last/model.safetensors")
    assert weights["second_encoder.projections.0.weight"].abs().max() > 1e-4


@pytest.mark.full
def test_batch_norm_sees_all_processes_if_it_is_asked_to(trained):
    """The second step's loss depends on the first one's gradients; later ones part, since AdamW amplifies rounding."""
    words = ("--training.batch_norm", "sync")
    (whole, _), (split, _) = trained("depth", 1, *words), trained("depth", 2, *words)
    own, _ = trained("depth", 2, "--training.batch_norm", "local")
    assert first_losses(split) == pytest.approx(first_losses(whole), rel=2e-6)
    assert first_losses(own)[1] != pytest.approx(first_losses(whole)[1], rel=2e-5)


def first_losses(out):
    """The losses of the first two steps."""
    return [json.loads(line)["total"] for line in (out / "log.jsonl").read_text().splitlines()[:2]]


@pytest.mark.full
def test_segmentation_learns_the_same_in_two_processes(trained):
    """UPerNet normalizes single pixels here, so single gradients are all rounding, and AdamW steps on them."""
    words = ("--training.batch_norm", "sync")
    (whole, _), (split, _) = trained("segmentation", 1, *words), trained("segmentation", 2, *words)
    one, other = (load_file(out / "last/model.safetensors") for out in (whole, split))
    apart = torch.cat([(one[name] - other[name]).flatten().abs() for name in one if ".running_" not in name])
    assert (apart > 1e-6).float().mean() < 1e-3
    assert furthest(whole, split) < 1e-4


@pytest.mark.full
def test_a_stopped_training_goes_on_with_another_number_of_processes(trained, images, tmp_path):
    """SIGTERM to torchrun, as a cluster sends it, the model split; then one process goes on, and says what differs."""
    words = ("--training.batch_norm", "frozen", "--training.steps", "20", "--training.checkpoint_seconds", "0")
    # Small steps: AdamW amplifies rounding, the more the larger they are.
    words += ("--training.ema_decay", "0.5", "--optimizer.lr", "1e-4")
    out = tmp_path / "run"
    command = train_command(tmp_path, "depth", images, out, 2, *words, "--training.fsdp", "true")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and not list(out.glob("checkpoints/*.pt")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=1200)
    assert process.returncode != 0
    assert "resume with: torchrun --standalone --nproc-per-node 2 -m metaprompts train" in said
    on = [*train_command(tmp_path, "depth", images, out, 1, *words)]
    done = subprocess.run(on, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "checkpoint comes from 2 processes, and this run has 1" in done.stderr
    straight, _ = trained("depth", 1, *words)
    assert furthest(straight, out) < 1e-5
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == [*range(1, 21), 20]


@pytest.mark.slow
def test_an_error_of_one_process_ends_all(images, tmp_path):
    broken = tmp_path / "images"
    broken.mkdir()
    for path in images.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "train3.png").write_bytes(b"no image")
    command = train_command(tmp_path, "depth", broken, tmp_path / "run", 2)
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode != 0
    own = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert any("train3.png" in line for line in own)
    assert all("train3.png" in line or "another process of this run has exited" in line for line in own)


@pytest.mark.parametrize(
    ("batch", "settings", "message"),
    [
        (24, {"processes": 7}, "batch_size 24 cannot be split over 7 processes"),
        (
            24,
            {"processes": 8, "micro_batch": 2},
            "has 3 images per step, not a multiple of training.micro_batch_size 2: choose a divisor of 3",
        ),
        (24, {"processes": 4, "loss_batch": 4}, "loss_group_size is 4, but a pass has 6 .* choose a divisor of 6"),
    ],
)
def test_what_does_not_come_out_even_is_refused(batch, settings, message):
    with pytest.raises(InputError, match=message):
        BatchPlan.of(batch, **{"processes": 1, "micro_batch": None, "loss_batch": None, **settings})


@pytest.mark.parametrize(
    ("batch", "settings", "expected"),
    [
        (24, {"processes": 8, "loss_batch": 3}, (3, 1, 3)),
        (24, {"processes": 2, "micro_batch": 3, "loss_batch": 3}, (3, 4, 3)),
        (24, {"processes": 2, "micro_batch": 6, "loss_batch": 3}, (6, 2, 3)),
        (1, {"loss_batch": 3}, (1, 1, 1)),
        (5, {"loss_batch": 2}, (5, 1, 2)),
        (8, {"micro_batch": 16}, (8, 1, 8)),
    ],
)
def test_a_step_is_split_evenly(batch, settings, expected):
    split = BatchPlan.of(batch, **{"processes": 1, "micro_batch": None, "loss_batch": None, **settings})
    assert (split.micro_batch, split.passes, split.loss_batch) == expected
    assert split.processes * split.passes * split.micro_batch == batch


RELEASED = (
    *("ade20k", "ade20k_ms", "cityscapes", "cityscapes_mapillary", "mapillary", "coco_pose", "nyu", "kitti"),
    # The same with other backbones.
    *("nyu_sd21", "nyu_sdxl"),
)
OWN = tuple(name for name in recipe_names() if name not in RELEASED)


@pytest.mark.parametrize("name", RELEASED)
def test_released_recipes_keep_their_batch_on_one_to_eight_processes(name):
    recipe = read_recipe(name)
    for processes in (1, 2, 4, 8):
        split = batch_plan(recipe, processes)
        assert (split.batch, split.fitted) == (recipe.training.batch_size, "")
        assert split.loss_batch == (recipe.training.loss_group_size or split.micro_batch)
    with pytest.raises(InputError, match="cannot be split over 5 processes"):
        batch_plan(recipe, 5)


@pytest.mark.parametrize("name", OWN)
def test_other_recipes_fit_themselves_to_the_processes(name):
    """The README's torchrun line was refused: scenes_depth on two processes, 8 sharing a loss, 4 in a pass."""
    recipe = read_recipe(name)
    for processes in (1, 2, 3, 4, 5, 8, 16):
        check_fitted(recipe, processes)


def check_fitted(recipe, processes):
    settings, split = recipe.training, batch_plan(recipe, processes)
    assert settings.batch_size <= split.batch < settings.batch_size + processes
    assert split.processes * split.passes * split.micro_batch == split.batch
    assert split.micro_batch % split.loss_batch == 0 or split.micro_batch == split.batch
    is_changed = split.batch != settings.batch_size or split.loss_batch < (settings.loss_group_size or 1)
    assert bool(split.fitted) == is_changed
    assert (f"(fitted: {split.fitted})" in str(split)) == is_changed


def test_what_was_fitted_is_said():
    split = BatchPlan.of(8, processes=3, micro_batch=None, loss_batch=2, fits=True)
    assert str(split) == (
        "a step: 9 images = 3 processes x 1 pass x 3; 1 share a loss (fitted: training.batch_size 9 instead of 8 and "
        "training.loss_group_size 1 instead of 2)"
    )
