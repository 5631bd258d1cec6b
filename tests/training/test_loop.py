"""Whole runs of a few steps, on images made here."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from metaprompts.errors import InputError
from metaprompts.models.loading import load
from metaprompts.modules.backbone.vae_encoder import LatentEncoder
from metaprompts.recipes.loader import read_recipe
from metaprompts.recipes.sections import Optimizer
from metaprompts.tasks import Depth, Pose
from metaprompts.training import loop
from metaprompts.training.build_model import build_model
from metaprompts.training.dataloaders import InfiniteDataLoader, training_split
from metaprompts.training.ema import WeightAverage
from metaprompts.training.loop import train, training_step
from metaprompts.training.lr_schedule import learning_rate
from metaprompts.training.nonfinite_dump import replay
from metaprompts.training.optimizer import make_optimizer
from metaprompts.training.ranking import is_as_good
from metaprompts.training.train_step import apply_learning_rate
from slow import slow_except
from training.images import made_recipe as recipe


@pytest.mark.parametrize("task", slow_except(["depth", "segmentation"], "depth"))
def test_the_same_recipe_gives_bitwise_the_same_model(task, images, tmp_path):
    for run in ("a", "b"):
        train(recipe(task, images, tmp_path / run))
    first, second = (load(tmp_path / run / "last").state_dict() for run in ("a", "b"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    train(recipe(task, images, tmp_path / "c", "--training.seed", "1"))
    third = load(tmp_path / "c" / "last").state_dict()
    assert not all(torch.equal(tensor, third[name]) for name, tensor in first.items())


@pytest.mark.draws_curves
def test_a_training_leaves_its_recipe_its_numbers_and_two_models(images, tmp_path):
    out = tmp_path / "out"
    made = recipe("depth", images, out, "--training.steps", "3", "--training.validate_every", "2")
    history = train(made)
    assert read_recipe(str(out / "recipe.json")) == made
    written = json.loads((out / "metrics.json").read_text())
    assert [entry["step"] for entry in history.validations] == [2, 3]
    logged = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [(entry["step"], "validation" in entry) for entry in logged] == [
        *((1, False), (2, False), (2, True), (3, False), (3, True))
    ]
    assert history.best == min(history.validations, key=lambda entry: entry["rmse"])
    assert logged[0].keys() == {"step", "lr", "total", "silog", "seconds", "waited"}
    assert logged[-1]["validation"]["rmse"] == history.validations[-1]["rmse"]
    assert 0 <= logged[0]["waited"] <= logged[0]["seconds"]
    assert np.asarray(Image.open(out / "curves.png")).std() > 1
    assert written["best"]["step"] == history.best["step"]
    best, last = load(out / "best"), load(out / "last")
    assert best.config == last.config
    assert last.config.working_size == (64, 64)


@pytest.mark.parametrize(("key", "value"), [("backbone.cache_latents", "true"), ("backbone.latent_cache", "cache")])
def test_a_cache_that_can_never_hit_is_warned_of(key, value, images, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(recipe("depth", images, tmp_path, f"--{key}", value, "--augment.color", "true"))
    assert f"{key} helps only if images repeat" in caplog.text


def test_a_second_run_on_a_latent_cache_meets_no_encoder(images, tmp_path, monkeypatch):
    """Latents of the first run, mirrored images too, are those of the second, bit for bit."""
    words = ("--backbone.latent_cache", str(tmp_path / "cache"), "--augment.color", "false")
    train(recipe("depth", images, tmp_path / "first", *words))

    def encoded(self, images):
        pytest.fail("an image was encoded again")

    monkeypatch.setattr(LatentEncoder, "_encoded", encoded)
    train(recipe("depth", images, tmp_path / "second", *words))
    name = "last/model.safetensors"
    assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.slow
def test_the_best_validation_is_kept(images, tmp_path, monkeypatch):
    """A number that is none never wins, and any number beats it."""
    scores = iter([float("nan"), 3.0, 2.0, float("nan"), 2.5])
    monkeypatch.setattr(loop, "evaluate", lambda *_, **__: {"rmse": next(scores)})
    made = recipe("depth", images, tmp_path, "--training.steps", "5", "--training.validate_every", "1")
    history = train(made)
    assert (history.best["step"], history.best["rmse"]) == (3, 2.0)


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([{"AP": 0.0, "AP50": 0.0}, {"AP": 0.0, "AP50": 0.0}], 2),
        ([{"AP": 0.0, "AP50": 0.1}, {"AP": 0.0, "AP50": 0.0}], 1),
        ([{"AP": 0.0, "pck@0.2": 0.2}, {"AP": 0.0, "pck@0.2": 0.3}, {"AP": 0.0, "pck@0.2": 0.1}], 2),
        ([{"AP": float("nan")}, {"AP": float("nan")}], 2),
        ([{"AP": 0.1}, {"AP": float("nan")}, {"AP": None}], 1),
    ],
)
def test_a_tie_is_broken_by_the_next_metric_then_by_the_later_step(rows, best):
    """Where AP was 0 in every validation, best/ was the first and worst model for ever."""
    kept = None
    for step, scores in enumerate(rows, start=1):
        kept = {"step": step, **scores} if is_as_good(Pose, scores, kept) else kept
    assert kept["step"] == best


def test_lower_errors_are_better_in_ties_too():
    best = {"rmse": 1.0, "rel": 0.2, "d1": 0.5}
    assert is_as_good(Depth, {"rmse": 1.0, "rel": 0.1, "d1": 0.1}, best)
    assert not is_as_good(Depth, {"rmse": 1.0, "rel": 0.3, "d1": 0.9}, best)


def test_learning_rates_reach_every_group(images, tmp_path):
    made = recipe(
        "depth",
        images,
        tmp_path,
        "--optimizer.backbone_lr_mult",
        "0.1",
        "--schedule.kind",
        "poly",
        "--schedule.warmup_steps",
        "0",
    )
    optimizer = make_optimizer(build_model(made), made.optimizer)
    lr = learning_rate(1, steps=2, lr=made.optimizer.lr, schedule=made.schedule)
    apply_learning_rate(optimizer, lr)
    assert lr == pytest.approx(made.optimizer.lr / 2)
    assert all(group["lr"] == lr * group["lr_scale"] for group in optimizer.param_groups)
    assert {group["lr_scale"] for group in optimizer.param_groups} == {0.1, 1.0}


def test_a_loss_that_is_not_finite_stops_the_training_and_changes_nothing(images, tmp_path):
    made = recipe("depth", images, tmp_path)
    model = build_model(made)
    optimizer = make_optimizer(model, Optimizer(lr=1.0, weight_decay=0.1))
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    batch = {"image": torch.full((2, 3, 64, 64), float("nan")), "depth_m": torch.ones(2, 64, 64)}
    losses = training_step(model, optimizer, batch, max_grad_norm=None)
    assert not np.isfinite(losses["total"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())


def test_a_step_whose_loss_is_not_finite_is_kept_for_inspection(images, tmp_path):
    overrides = ("--optimizer.lr", "1000", "--training.steps", "9", "--schedule.kind", "constant")
    made = recipe(
        "depth", images, tmp_path, *overrides, "--optimizer.max_grad_norm", "none", "--schedule.warmup_steps", "0"
    )
    with pytest.raises(
        InputError, match=r"no longer finite at step \d .*its images are .*train\d\.png, .*train\d\.png"
    ):
        train(made)
    (kept,) = tmp_path.glob("not_finite_*.pt")
    losses = replay(kept)
    assert losses.keys() == {"silog"}
    assert not losses["silog"].isfinite()


def test_bad_images_are_skipped_counted_and_limited(images, tmp_path, caplog):
    """By default the first one stops the training."""
    root = tmp_path / "images"
    shutil.copytree(images, root)
    (root / "broken.png").write_bytes(b"no image")
    with (root / "train_depth.txt").open("a") as file:
        file.write("broken.png train0_depth.png\n" * 2)
    words = ("--training.steps", "6")
    with pytest.raises(InputError, match=r"broken\.png"):
        train(recipe("depth", root, tmp_path / "a", *words))
    skip = (*words, "--data.on_error", "skip")
    train(recipe("depth", root, tmp_path / "b", *skip))
    assert json.loads((tmp_path / "b/metrics.json").read_text())["skipped"] == 2
    assert sum("skipping a bad sample" in record.message for record in caplog.records) == 2
    with pytest.raises(
        InputError, match=r"2 of 7 training samples cannot be read, but data.max_bad_samples is 1; .*broken"
    ):
        train(recipe("depth", root, tmp_path / "c", *skip, "--data.max_bad_samples", "1"))


def test_gradients_are_clipped_together(images, tmp_path):
    model = build_model(recipe("depth", images, tmp_path))
    batch = {"image": torch.rand(2, 3, 64, 64), "depth_m": torch.rand(2, 64, 64) + 1}
    training_step(model, torch.optim.SGD(model.parameters(), lr=0.0), batch, max_grad_norm=1e-3)
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-2)


def test_every_epoch_is_shuffled_anew_and_seeded(images, tmp_path):
    """The released code repeats one order for ever."""

    def epochs(seed):
        made = recipe("depth", images, tmp_path, "--training.seed", str(seed), "--training.batch_size", "1")
        batches = InfiniteDataLoader(training_split(made), made)
        assert len(batches) == 5
        order = []
        batches._dataset.sample = lambda index, plain=batches._dataset.sample: order.append(index) or plain(index)
        for _ in zip(range(15), batches, strict=False):
            pass
        return [order[start : start + 5] for start in (0, 5, 10)]

    first = epochs(0)
    assert all(sorted(epoch) == list(range(5)) for epoch in first)
    assert first[0] != first[1] or first[1] != first[2]
    assert epochs(0) == first
    assert epochs(1) != first


def test_a_split_smaller_than_a_batch_is_refused(images, tmp_path):
    made = recipe("depth", images, tmp_path, "--training.batch_size", "6")
    with pytest.raises(InputError, match=r"5 training images are fewer than training\.batch_size 6"):
        train(made)


@pytest.mark.slow
def test_tensorboard_gets_numbers_and_the_same_images_at_each_validation(images, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ("--training.steps", "4", "--training.validate_every", "2", "--training.report_to", "tensorboard")
    train(recipe("depth", images, tmp_path, *words))
    events = EventAccumulator(str(tmp_path / "tensorboard/metaprompts"), size_guidance={"images": 0})
    events.Reload()
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [(each["step"], each["total"]) for each in logged if "total" in each]
    assert [(each.step, each.value) for each in events.Scalars("training/total")] == [
        (step, pytest.approx(loss)) for step, loss in losses
    ]
    assert {"training/lr", "validation/rmse"} <= set(events.Tags()["scalars"])
    for name in ("predictions", "prompts"):
        assert [each.step for each in events.Images(name)] == [2, 4]


@pytest.mark.slow
def test_no_tracker_and_one_that_is_missing(images, tmp_path):
    train(recipe("depth", images, tmp_path / "none"))
    assert not (tmp_path / "none/tensorboard").exists()
    with pytest.raises(InputError, match=r"names mlflow, which is not installed: pip install mlflow"):
        train(recipe("depth", images, tmp_path / "other", "--training.report_to", "mlflow"))


@pytest.mark.slow
def test_bfloat16_passes_leave_weights_and_moments_in_float32(images, tmp_path):
    words = ("--training.steps", "3")
    train(recipe("depth", images, tmp_path / "fp32", *words))
    train(recipe("depth", images, tmp_path / "bf16", *words, "--training.precision", "bf16"))
    full, half = (load(tmp_path / name / "last").state_dict() for name in ("fp32", "bf16"))
    assert all(tensor.dtype == full[name].dtype for name, tensor in half.items())
    first, second = (
        json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[0])["total"] for name in ("fp32", "bf16")
    )
    assert first != second
    assert second == pytest.approx(first, rel=0.02)
    with pytest.raises(InputError, match="fp16 needs a GPU"):
        train(recipe("depth", images, tmp_path / "fp16", *words, "--training.precision", "fp16"))


def test_the_averaged_weights_are_validated_and_kept(images, tmp_path, monkeypatch):
    met = []
    update = WeightAverage.update

    def noting(self, step):
        update(self, step)
        met.append((step, {name: each.detach().clone() for name, each in self._own.items()}))

    monkeypatch.setattr(WeightAverage, "update", noting)
    words = ("--optimizer.lr", "0.01", "--schedule.warmup_steps", "0")
    made = recipe("depth", images, tmp_path, *words, "--training.ema_decay", "0.999999")
    torch.manual_seed(made.training.seed)
    fresh = build_model(made)
    train(made)
    kept = load(tmp_path / "last").state_dict()
    assert [step for step, _ in met] == list(range(1, len(met) + 1))
    fresh_weights = fresh.state_dict()
    for name in met[0][1]:
        average = fresh_weights[name]
        for step, weights in met:
            share = (1 + step) / (10 + step)
            average = share * average + (1 - share) * weights[name]
        assert torch.allclose(kept[name], average, atol=1e-5), name


def test_one_image_a_pass_is_too_few_for_segmentation(images, tmp_path):
    words = ("--training.micro_batch_size", "1", "--training.loss_group_size", "1")
    with pytest.raises(InputError, match=r"batch norm needs at least 2: choose a larger training\.micro_batch_size"):
        train(recipe("segmentation", images, tmp_path, *words))


@pytest.mark.full
def test_a_compiled_training_learns_the_same(images, tmp_path):
    """Slow: every kind of pass is compiled first."""
    words = ("--training.batch_norm", "frozen")
    train(recipe("depth", images, tmp_path / "eager", *words))
    train(recipe("depth", images, tmp_path / "compiled", *words, "--training.compile", "true"))
    eager, compiled = (load(tmp_path / name / "last").state_dict() for name in ("eager", "compiled"))
    assert all(torch.allclose(tensor, compiled[name], atol=1e-5) for name, tensor in eager.items())
