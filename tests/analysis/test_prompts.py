from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from metaprompts.analysis.prompts import predictions_by_step, prompt_heatmaps, prompt_responses
from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig
from metaprompts.models.model import MetaPromptModel
from slow import slow_except
from small import small_model

OFF = {"enabled": False}
IMAGE = np.random.default_rng(0).integers(0, 256, (45, 83, 3), dtype=np.uint8)


@cache
def shared(task):
    """A model that no test changes."""
    return small_model(task)


def plain_maps(model):
    """What the model gives for the image, asked for without the code under test."""
    (view,) = model.task.model_inputs(IMAGE, model.config.working_size, None)
    with torch.inference_mode():
        return model.prompt_maps(view.image[None])


def unit(values):
    return (values - values.min()) / (values.max() - values.min())


@pytest.mark.parametrize("level", [0, 2, "mean"])
def test_heatmaps_are_the_levels_maps_enlarged_and_brought_to_0_to_1(level):
    model = shared("segmentation")
    maps = plain_maps(model)
    finest = maps[0].shape[-2:]
    if level == "mean":
        chosen = sum(F.interpolate(each, size=finest, mode="bilinear") for each in maps) / 4
    else:
        chosen = maps[level]
    expected = F.interpolate(chosen, size=(45, 83), mode="bilinear")[0].numpy()
    found = prompt_heatmaps(model, IMAGE, [3, 1, 3], level=level)
    assert [each.prompt for each in found] == [3, 1]
    for each in found:
        assert each.map.dtype == np.float32
        assert each.seen.all()
        np.testing.assert_allclose(each.map, unit(expected[each.prompt]), atol=1e-5)


@pytest.mark.parametrize("task", ["segmentation", "depth", "pose"])
def test_the_most_distinct_are_chosen_for_every_task(task):
    model = shared(task)
    found = prompt_heatmaps(model, IMAGE, top=2)
    everything = prompt_heatmaps(model, IMAGE)
    assert sorted(each.prompt for each in everything) == [0, 1, 2, 3]
    maps = plain_maps(model)[0][0].flatten(1).numpy()
    clearest = int(np.argmax([unit(row).var() for row in maps]))
    gains = [unit(row).var() * (1 - abs(np.corrcoef(row, maps[clearest])[0, 1])) for row in maps]
    gains[clearest] = -1
    assert [each.prompt for each in found] == [clearest, int(np.argmax(gains))]
    for each in found:
        assert each.map.shape == each.seen.shape == (45, 83)
        assert each.map.min() == 0
        assert each.map.max() == 1


def test_pose_reads_only_its_boxes():
    model = shared("pose")
    (found,) = prompt_heatmaps(model, IMAGE, [0], boxes=[(10, 10, 16, 16)])
    rows, columns = np.nonzero(found.seen)
    # The square box, a quarter larger: 8 to 28.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 28, 8, 28)
    assert (found.map[~found.seen] == 0).all()
    assert prompt_heatmaps(model, IMAGE, [0], boxes=[]) == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": [4]}, "no prompt 4: this model has prompts 0 to 3"),
        ({"prompts": [-1]}, "no prompt -1"),
        ({"prompts": []}, "list of prompts is empty"),
        ({"top": 0}, "0 most distinct"),
        ({"level": 1}, "no level 1: this model has only level 0"),
    ],
)
def test_what_the_model_does_not_have_is_reported(arguments, message):
    with pytest.raises(InputError, match=message):
        prompt_heatmaps(shared("depth"), IMAGE, **arguments)


def test_levels_are_counted():
    with pytest.raises(InputError, match=r"no level 4: this model has the levels 0 \(finest\) to 3"):
        prompt_heatmaps(shared("segmentation"), IMAGE, level=4)


def changed(model, **changes):
    """A model of other settings with the same weights, as far as it has them."""
    made = MetaPromptModel.from_config(ModelConfig.from_dict(model.config.to_dict() | changes))
    known = model.state_dict()
    made.load_state_dict({name: known[name] for name in made.state_dict()}, assign=True)
    return made.eval()


def test_without_rearrangement_there_are_no_prompt_maps():
    model = MetaPromptModel.from_config(
        ModelConfig.from_dict(shared("depth").config.to_dict() | {"rearrangement": OFF})
    )
    with pytest.raises(InputError, match="no map for each prompt"):
        prompt_heatmaps(model, IMAGE)


@pytest.mark.parametrize("image", [np.full((4, 4, 3), np.nan), np.zeros((4, 4, 3), np.float32), 5])
def test_what_is_no_image_is_reported(image):
    model = shared("depth")
    for explain in (prompt_heatmaps, predictions_by_step):
        with pytest.raises(InputError, match=r"an image (has type|is a)"):
            explain(model, image)


def test_broken_weights_are_reported():
    model = small_model("depth")
    with torch.no_grad():
        model.prompts.sets[2][1, 0] = torch.nan
    with pytest.raises(InputError, match="prompt maps hold NaN"):
        prompt_heatmaps(model, IMAGE)


def exact(prediction):
    """The numbers of a prediction of any task."""
    if hasattr(prediction, "depth_m"):
        return prediction.depth_m
    if hasattr(prediction, "confidence"):
        return prediction.confidence
    return np.concatenate([np.c_[person.keypoints, person.scores] for person in prediction.people])


@pytest.mark.parametrize("task", slow_except(["segmentation", "depth", "pose"], "depth"))
def test_step_k_is_what_a_model_of_k_steps_with_these_weights_predicts(task):
    """The depth model has prompts of its own for each step; a model cut to k steps rearranges with those of step k."""
    model = shared(task)
    found = predictions_by_step(model, IMAGE)
    assert len(found) == 3
    np.testing.assert_array_equal(exact(found[-1]), exact(model.predict(IMAGE)))
    for steps in (1, 2, 3):
        cut = changed(model, refinement={"steps": steps})
        assert len(cut.refinement.time) == steps
        assert len(cut.prompts.sets) == (steps if task == "depth" else 1)
        # Joints are fitted to a heatmap's logarithm, which amplifies rounding: they are compared to 1e-4 pixels.
        close = 1e-4 if task == "pose" else 1e-6
        np.testing.assert_allclose(exact(found[steps - 1]), exact(cut.predict(IMAGE)), rtol=1e-5, atol=close)
    assert not np.allclose(exact(found[0]), exact(found[1]))
    assert not np.allclose(exact(found[1]), exact(found[2]))


def test_steps_of_people():
    model = shared("pose")
    two = predictions_by_step(model, IMAGE, boxes=[(0, 0, 20, 40, 0.5), (30, 5, 20, 30)])
    assert [[person.score for person in each.people] for each in two] == [[0.5, 1.0]] * 3
    assert [each.people for each in predictions_by_step(model, IMAGE, boxes=[])] == [(), (), ()]


@pytest.mark.parametrize("training", [False, True])
def test_explaining_uses_no_batch_statistics_and_leaves_the_model_as_it_was(training):
    model = small_model("segmentation")
    expected = prompt_heatmaps(model, IMAGE)[0].map
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train(training)
    np.testing.assert_array_equal(prompt_heatmaps(model, IMAGE)[0].map, expected)
    predictions_by_step(model, IMAGE)
    batch = {"image": torch.rand(1, 3, 64, 64), "labels": torch.zeros(1, 64, 64, dtype=torch.int64)}
    prompt_responses(model, [batch])
    assert model.training == training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def images(count=2):
    return torch.rand(count, 3, 64, 128, generator=torch.Generator().manual_seed(3))


def given_maps(model, batches, level=0):
    with torch.inference_mode():
        return [model.prompt_maps(batch["image"])[level].double() for batch in batches]


def test_responses_of_a_depth_model_are_those_of_all_its_maps_at_once():
    model = shared("depth")
    depths = torch.linspace(0, 12, 4 * 30 * 70).reshape(2, 2, 30, 70)  # meters; the model knows up to 10
    batches = [{"image": images(), "depth_m": depth_m} for depth_m in depths]
    found = prompt_responses(model, batches)
    maps = torch.cat([F.interpolate(each, size=(30, 70), mode="bilinear") for each in given_maps(model, batches)])
    pixels = maps.transpose(0, 1).flatten(1).numpy()
    counted = ((depths > model.task.min_depth_m) & (depths < 10)).flatten().numpy()
    expected = np.corrcoef(np.vstack([pixels[:, counted], depths.flatten().numpy()[counted]]))[4, :4]
    np.testing.assert_allclose(found.correlation, expected, rtol=1e-5)


def test_responses_of_a_segmentation_model_are_those_of_the_level():
    model = shared("segmentation")
    labels = (torch.arange(2 * 30 * 70).reshape(2, 30, 70) // 35) % 2
    batches = [{"image": images(), "labels": labels}]
    for level in (0, 1):
        found = prompt_responses(model, batches, level=level)
        (maps,) = given_maps(model, batches, level)
        pixels = F.interpolate(maps, size=(30, 70), mode="bilinear").transpose(0, 1).flatten(1).numpy()
        expected = np.stack([pixels[:, labels.flatten().numpy() == place].mean(axis=1) for place in (0, 1)], axis=1)
        assert found.names == ("ground", "sky")
        np.testing.assert_allclose(found.means, expected, rtol=1e-5, atol=1e-6)


def test_responses_of_a_pose_model_are_its_maps_at_the_joints():
    model = shared("pose")
    keypoints = torch.zeros(2, 17, 3)
    # Centers of the map's pixels (2, 1) and (5, 3): column, row.
    keypoints[:, 0], keypoints[0, 4] = torch.tensor([19.5, 11.5, 2]), torch.tensor([43.5, 27.5, 2])
    batches = [{"image": images()[..., :64], "keypoints": keypoints}]
    found = prompt_responses(model, batches)
    (maps,) = given_maps(model, batches)
    np.testing.assert_allclose(found.means[:, 0], maps[:, :, 1, 2].mean(dim=0), rtol=1e-5)
    np.testing.assert_allclose(found.means[:, 4], maps[0, :, 3, 5], rtol=1e-5)
    assert np.isnan(found.means[:, 1]).all()
