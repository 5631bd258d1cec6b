"""What holds for every task: one class, run for each."""

import copy
import json
from itertools import product

import numpy as np
import pytest
import torch

from metaprompts.models.config import Architecture, ModelConfig, Prompts, Rearrangement, Refinement
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone.loading import named_config
from metaprompts.modules.meta_prompts.prompts import LABEL_TOKENS
from metaprompts.recipes.sections import Optimizer
from metaprompts.tasks import Depth, Normals, Pose, Segmentation, task_class
from metaprompts.training.loop import training_step
from metaprompts.training.optimizer import make_optimizer
from slow import slow_except

MICRO = named_config("micro")
# Three levels, as many as any head asks for.
BACKBONE = Architecture(
    unet=MICRO["unet"]
    | {
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": [16, 16, 32],
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
    },
    vae=MICRO["vae"] | {"block_out_channels": [8, 8, 16, 16]},
)
TASKS = {
    "segmentation": Segmentation(classes=("ground", "sky", "tree"), width=16),
    # Transposed convolutions are those of pose, and of every golden file of depth.
    "depth": Depth(max_depth_m=10.0, margin_blocks=0, filters=8, width=16, upsample="resize"),
    "pose": Pose(crop_height=64, crop_width=128, heatmap_sigma=1.5, filters=16),
    "normals": Normals(filters=8, width=16, upsample="resize", l1_weight=0.5),
}
NAMES = [*TASKS, "gray"]
VARIANTS = {
    "one step": {"refinement": Refinement(steps=1)},
    "two steps": {"refinement": Refinement(steps=2)},
    "three steps": {"refinement": Refinement(steps=3, time_std=0.02, match_latent=True)},
    "prompts per step": {"prompts": Prompts(count=5, per_step=True)},
    "adapter": {"prompts": Prompts(count=5, adapter=True)},
    "adapter per step": {"prompts": Prompts(count=5, per_step=True, adapter=True)},
    "labels": {"prompts": Prompts(kind="label", count=3, labels=("a", "b", "c"))},
    "labels, adapter": {"prompts": Prompts(kind="label", count=3, labels=("a", "b", "c"), adapter=True)},
    "captions": {"prompts": Prompts(kind="caption", count=6)},
    "captions, adapter per step": {"prompts": Prompts(kind="caption", count=6, adapter=True, per_step=True)},
    "one time": {"refinement": Refinement(steps=2, modulated_time=False)},
    "no rearrangement": {"rearrangement": Rearrangement(enabled=False)},
}
# What the other tasks do not do otherwise than segmentation is left to the full run.
QUICK = ("adapter per step", "captions, adapter per step", "labels, adapter", "no rearrangement")
BRIEF = ("one step", "three steps", "adapter per step", "captions, adapter per step", "no rearrangement")


KINDS = {
    "meta": Prompts(count=5),
    "label": Prompts(kind="label", count=3, labels=("a", "b", "c"), adapter=True),
    "caption": Prompts(kind="caption", count=6),
}
CHANNELS = BACKBONE.unet["cross_attention_dim"]


@pytest.fixture(autouse=True)
def tasks(outside):
    """All tasks by name; that of another package exists only while a test runs."""
    return TASKS | {"gray": task_class("gray")(upsample="resize")}


def build(task, **changes):
    torch.manual_seed(0)
    settings = {"prompts": Prompts(count=5), "refinement": Refinement(steps=2)} | changes
    return MetaPromptModel(ModelConfig(task=task, backbone=BACKBONE, **settings))


def context_for(model, batch):
    """Random captions, where the model reads any."""
    if model.config.prompts.kind != "caption":
        return None
    return torch.randn(batch, 6, CHANNELS, generator=torch.Generator().manual_seed(1))


def make_batch(name, size=(64, 128)):
    """Two images of random blocks, and targets that follow from them."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(2, 3, 4, 4, generator=generator)
    image = torch.nn.functional.interpolate(blocks, size=size)
    if name == "segmentation":
        labels = image.argmax(dim=1)
        labels[:, :8] = 255
        return {"image": image, "labels": labels}
    if name == "depth":
        depth_m = 1 + 8 * image[:, 0]
        depth_m[:, :8] = 0
        return {"image": image, "depth_m": depth_m}
    if name == "normals":
        normals = torch.nn.functional.normalize(image - 0.5, dim=1)
        normals[..., :8, :] = 0
        return {"image": image, "normals": normals}
    if name == "gray":
        return {"image": image, "gray": image[:, 1]}
    keypoints = torch.rand(2, 17, 3, generator=generator) * torch.tensor([127.0, 63.0, 0.0])
    keypoints[..., 2] = 2
    keypoints[:, 3, 2] = 0
    return {"image": image, "keypoints": keypoints}


def raw_size(name, height, width):
    if name == "segmentation":
        return (3, height, width)
    if name in ("depth", "gray", "normals"):
        return (3 if name == "normals" else 1, height // 8 * 8, width // 8 * 8)
    return (17, height // 8 * 2, width // 8 * 2)


def rest(is_slow, *values):
    return pytest.param(*values, marks=pytest.mark.slow if is_slow else pytest.mark.full)


SIZES = ((70, 101), (64, 64), (64, 128), (40, 136))
SHAPES = [
    pytest.param("meta", SIZES[0]),
    *(rest(kind == "meta" or size == SIZES[0], kind, size) for kind, size in list(product(KINDS, SIZES))[1:]),
]
GRADIENTS = [
    pytest.param(name, variant)
    if variant == "three steps" or (variant in QUICK and name in ("segmentation", "gray"))
    else rest(name == "segmentation" or variant in BRIEF, name, variant)
    for name, variant in product(NAMES, VARIANTS)
]


@pytest.mark.parametrize(("name", "variant"), GRADIENTS)
def test_the_gradient_reaches_every_trainable_tensor_and_never_the_vae(tasks, name, variant):
    model = build(tasks[name], **VARIANTS[variant]).train()
    batch = make_batch(name)
    losses = model.task.losses(*model.training_outputs(batch["image"], context_for(model, 2)), batch)
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.startswith("latent_encoder."):
            assert not parameter.requires_grad
            assert parameter.grad is None
        else:
            assert parameter.requires_grad, parameter_name
            assert parameter.grad is not None, parameter_name
            assert torch.isfinite(parameter.grad).all(), parameter_name
            assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", slow_except(NAMES, "normals"))
def test_two_images_can_be_learned_by_heart(tasks, name):
    model = build(tasks[name], refinement=Refinement(steps=1)).train()
    optimizer = make_optimizer(model, Optimizer(lr=1e-2, weight_decay=0.0))
    batch = make_batch(name)
    totals = [training_step(model, optimizer, batch, max_grad_norm=1.0)["total"] for _ in range(32)]
    assert sum(totals[-3:]) / 3 < 0.65 * totals[0], totals[::5]


@pytest.mark.parametrize("name", NAMES)
class TestEveryTask:
    @pytest.mark.parametrize(("kind", "size"), SHAPES)
    def test_raw_outputs_have_the_promised_shape(self, tasks, name, kind, size):
        model = build(tasks[name], prompts=KINDS[kind]).eval()
        images, context = torch.rand(2, 3, *size), context_for(model, 2)
        with torch.inference_mode():
            raw = model(images, context)
            trained, auxiliary = model.training_outputs(images, context)
            maps = model.prompt_maps(images, context)
        assert {each.shape[1] for each in maps} == {KINDS[kind].count}
        assert raw.shape == trained.shape == (2, *raw_size(name, *size))
        assert (auxiliary is not None) == (name == "segmentation")
        if auxiliary is not None:
            assert auxiliary.shape == raw.shape

    @pytest.mark.parametrize("kind", slow_except(KINDS, "meta"))
    def test_saved_and_loaded_it_is_bitwise_the_same(self, tasks, name, kind, tmp_path):
        model = build(tasks[name], prompts=KINDS[kind]).eval()
        with torch.no_grad():
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    buffer.uniform_(0.5, 1.5)
        model.save(tmp_path / "model")
        again = load(tmp_path / "model")
        assert again.config == model.config
        assert not again.training
        state = model.state_dict()
        assert again.state_dict().keys() == state.keys()
        assert all(torch.equal(state[key], tensor) for key, tensor in again.state_dict().items())
        images, context = torch.rand(1, 3, 64, 64), context_for(model, 1)
        with torch.inference_mode():
            assert torch.equal(model(images, context), again(images, context))
        trainable = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        assert {key for key, parameter in again.named_parameters() if parameter.requires_grad} == trainable

    def test_metrics_are_the_single_numbers_of_its_scores(self, tasks, name, tmp_path):
        person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81.0, "iscrowd": 0}
        people = [{**person, "num_keypoints": 17, "keypoints": [5, 5, 2] * 17}]
        content = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": people}
        (tmp_path / "people.json").write_text(json.dumps(content))
        metric = tasks[name].metric(annotations=tmp_path / "people.json")
        if name == "pose":
            metric.precision.update(
                torch.tensor([1]), torch.full((1, 17, 2), 5.0), torch.ones(1, 17), torch.ones(1), torch.ones(1)
            )
        numbers = {key for key, value in metric.scores().items() if isinstance(value, float)}
        assert numbers - {"images", "images_skipped"} == set(tasks[name].metrics)

    def test_decoding_what_was_encoded_gives_the_targets(self, tasks, name):
        task, batch = tasks[name], make_batch(name)
        decoded = task.decode(task.encode(batch))
        if name == "segmentation":
            known = batch["labels"] != 255
            assert torch.equal(decoded[known], batch["labels"][known])
        elif name != "pose":
            torch.testing.assert_close(decoded, batch["depth_m" if name == "depth" else name])
        else:
            seen = batch["keypoints"][..., 2] > 0
            assert (decoded[..., :2] - batch["keypoints"][..., :2])[seen].abs().max() < 0.05
            assert (decoded[..., 2][seen] > 0.7).all()
            assert (decoded[..., 2][~seen] == 0).all()

    def test_the_right_output_costs_less_than_a_wrong_one(self, tasks, name):
        task, batch = tasks[name], make_batch(name)
        right = task.encode(batch)
        wrong = right.roll(16, dims=-1) if right.shape[1] == 1 else right.roll(1, dims=1)
        # Logits of 0 and 1 are not sure of anything; depth is above 0 also where it was not measured.
        sure = {"segmentation": lambda raw: 10 * raw, "depth": lambda raw: raw.clamp_min(1e-3)}
        right, wrong = map(sure.get(name, lambda raw: raw), (right, wrong))
        cost, worse = (sum(task.losses(raw, raw, batch).values()) for raw in (right, wrong))
        assert cost < 0.3 * worse

    @pytest.mark.parametrize("kind", slow_except(KINDS, "meta"))
    def test_the_same_seed_gives_the_same_weights(self, tasks, name, kind):
        states = []
        for _ in range(2):
            model = build(tasks[name], prompts=KINDS[kind]).train()
            optimizer = make_optimizer(model, Optimizer(lr=1e-3, weight_decay=1e-2))
            batch, context = make_batch(name), context_for(model, 2)
            for _ in range(2):
                training_step(
                    model, optimizer, batch if context is None else batch | {"context": context}, max_grad_norm=1.0
                )
            states.append(copy.deepcopy(model.state_dict()))
        assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
        untrained = build(tasks[name], prompts=KINDS[kind]).state_dict()
        moved = [key for key, tensor in states[0].items() if not torch.equal(tensor, untrained[key])]
        assert moved
        assert not any(key.startswith("latent_encoder.") or key == LABEL_TOKENS for key in moved)

    @pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (64, 64), (641, 479)])
    def test_a_image_of_any_size_is_predicted_at_its_own(self, tasks, name, size):
        model = build(tasks[name], refinement=Refinement(steps=1), working_size=(64, 96)).eval()
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        prediction = model.predict(image)
        assert np.array_equal(prediction.image, image)
        if name == "segmentation":
            assert prediction.labels.shape == size
            assert prediction.labels.dtype == np.uint8
            assert prediction.confidence.min() >= 1 / 3
            assert prediction.confidence.max() <= 1
        elif name == "depth":
            assert prediction.depth_m.shape == size
            assert prediction.depth_m.min() > 0
            assert prediction.depth_m.max() < 10
        elif name == "normals":
            np.testing.assert_allclose(np.square(prediction.normals).sum(axis=2), 1, atol=1e-5)
        elif name == "gray":
            assert prediction.gray.shape == size
        else:
            (person,) = prediction.people
            assert person.keypoints.shape == (17, 2)
            assert np.isfinite(person.keypoints).all()
            assert person.box_xywh == (0, 0, size[1], size[0])
        assert prediction.show().size[0] >= size[1]

    @pytest.mark.parametrize("kind", slow_except(["meta", "caption"], "caption"))
    def test_images_are_predicted_alike_alone_and_together(self, tasks, name, kind):
        model = build(tasks[name], prompts=KINDS[kind], working_size=(64, 64)).eval()
        generator = np.random.default_rng(0)
        images = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in [(64, 64), (40, 160), (64, 64)]]
        boxes = [[(0, 0, 64, 64), (8, 8, 30, 40, 0.5)], [], None] if name == "pose" else [None] * 3
        captions = [None] * 3 if kind == "meta" else list(torch.randn(3, 6, CHANNELS))
        together = list(model.predict_many(zip(images, boxes, captions, strict=True), batch_size=2))
        for image, box, caption, prediction in zip(images, boxes, captions, together, strict=True):
            alone = model.predict(image, box, caption)
            assert np.array_equal(prediction.image, image)
            if name == "pose":
                assert len(alone.people) == len(prediction.people) == (1 if box is None else len(box))
                for one, other in zip(alone.people, prediction.people, strict=True):
                    np.testing.assert_allclose(one.keypoints, other.keypoints, atol=0.05)
            elif name == "depth":
                np.testing.assert_allclose(alone.depth_m, prediction.depth_m, rtol=1e-4)
            elif name != "segmentation":
                np.testing.assert_allclose(getattr(alone, name), getattr(prediction, name), atol=1e-4)
            else:
                np.testing.assert_allclose(alone.confidence, prediction.confidence, rtol=1e-3)
