import logging

import pytest
import torch

from metaprompts.errors import InputError
from metaprompts.models.loading import load
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model
from metaprompts.training.warm_start import init_from
from small import SMALL, small_model


def another(*overrides):
    torch.manual_seed(1)
    words = [*SMALL["segmentation"], "--data.image_size", "64,64", "--prompts.count", "4", *overrides]
    return build_model(read_recipe("micro_segmentation", words))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    small_model("segmentation").save(folder)
    return folder


def test_all_weights_are_taken_where_all_fit(trained, caplog):
    model = another("--training.init_from", str(trained))
    first = small_model("segmentation").state_dict()
    assert all(torch.equal(tensor, first[name]) for name, tensor in model.state_dict().items())
    assert not caplog.records


def messages(caplog):
    return [record.getMessage() for record in caplog.records if record.name.endswith("warm_start")]


def test_a_head_of_other_classes_stays_fresh_and_is_named_in_one_line(trained, caplog):
    model = another("--task.classes", "a,b,c")
    before = model.head.classify.weight.clone()
    with caplog.at_level(logging.WARNING):
        assert init_from(model, trained) == ["auxiliary_head.classify", "head.classify"]
    assert torch.equal(model.head.classify.weight, before)
    rows, layers = messages(caplog)
    assert rows.endswith("outputs copied by name: none; newly initialized: a, b, c")
    assert layers.endswith("newly initialized: auxiliary_head.classify, head.classify")
    assert torch.equal(model.unet.conv_in.weight, small_model("segmentation").unet.conv_in.weight)


def test_classes_in_another_order_are_taken_by_name(trained, caplog):
    """A head of the classes ground,sky went on as one of sky,ground: what it had learned was exchanged."""
    model = another("--task.classes", "sky,ground", "--training.init_from", str(trained))
    first = small_model("segmentation")
    for head, other in ((model.head, first.head), (model.auxiliary_head, first.auxiliary_head)):
        assert torch.equal(head.classify.weight, other.classify.weight.flip(0))
        assert torch.equal(head.classify.bias, other.classify.bias.flip(0))
    assert torch.equal(model.head.fuse[0].weight, first.head.fuse[0].weight)
    (message,) = messages(caplog)
    assert "outputs copied by name: sky, ground; newly initialized: none" in message


def test_of_classes_that_only_partly_agree_the_others_are_fresh(trained, caplog):
    model = another("--task.classes", "car,sky,road")
    before = model.head.classify.weight.clone()
    assert init_from(model, trained) == []
    assert torch.equal(model.head.classify.weight[1], small_model("segmentation").head.classify.weight[1])
    assert torch.equal(model.head.classify.weight[[0, 2]], before[[0, 2]])
    assert "outputs copied by name: sky; newly initialized: car, road" in caplog.text


def test_two_other_classes_are_no_reason_to_take_a_head(trained):
    """As many outputs as before were taken, whatever they stood for."""
    model = another("--task.classes", "cat,dog")
    before = model.head.classify.weight.clone()
    assert init_from(model, trained) == ["auxiliary_head.classify", "head.classify"]
    assert torch.equal(model.head.classify.weight, before)


def test_joints_in_another_order_are_taken_by_name(tmp_path):
    first = small_model("pose")
    first.save(tmp_path)
    joints = first.task.joints[::-1]
    words = [*SMALL["pose"], "--prompts.count", "4", "--task.joints", ",".join(joints), "--task.skeleton", ""]
    torch.manual_seed(1)
    model = build_model(read_recipe("micro_pose", words))
    init_from(model, tmp_path)
    assert torch.equal(model.head.score.weight, first.head.score.weight.flip(0))


def test_names_are_compared_as_everywhere_else(trained, tmp_path, caplog):
    """Left_Eye is left_eye, and Sky is sky: they were new outputs, trained from nothing."""
    model = another("--task.classes", "SKY,Ground ", "--training.init_from", str(trained))
    assert torch.equal(model.head.classify.weight, small_model("segmentation").head.classify.weight.flip(0))
    first = small_model("pose")
    first.save(tmp_path)
    words = [*SMALL["pose"], "--prompts.count", "4", "--task.joints", "tail,LeftEye,nose"]
    torch.manual_seed(1)
    model = build_model(read_recipe("micro_pose", [*words, "--training.init_from", str(tmp_path)]))
    rows = [first.task.joints.index(name) for name in ("left_eye", "nose")]
    assert torch.equal(model.head.score.weight[1:], first.head.score.weight[rows])
    assert "outputs copied by name: LeftEye, nose; newly initialized: tail" in caplog.text


def test_an_embedded_model_is_a_start_for_other_classes(caplog):
    """What the README recommends for data of one's own: only folders were taken."""
    words = ["--task.classes", "car,tree,bridge", "--training.init_from", "micro-segmentation"]
    model, first = build_model(read_recipe("micro_segmentation", words)), load("micro-segmentation", "cpu")
    assert torch.equal(model.unet.conv_in.weight, first.unet.conv_in.weight)
    places = [first.task.classes.index(name) for name in ("car", "tree")]
    assert torch.equal(model.head.classify.weight[:2], first.head.classify.weight[places])
    assert "outputs copied by name: car, tree; newly initialized: bridge" in caplog.text


def test_a_hub_id_is_a_start(trained, monkeypatch):
    asked = []
    monkeypatch.setattr("metaprompts.models.loading.hub_folder", lambda name, files: asked.append(name) or trained)
    model = another("--training.init_from", "somebody/sky-and-ground")
    assert asked == ["somebody/sky-and-ground"]
    assert torch.equal(model.unet.conv_in.weight, small_model("segmentation").unet.conv_in.weight)


@pytest.mark.slow
def test_bad_folders_are_reported(trained, tmp_path):
    with pytest.raises(
        InputError, match=r"no model at .*nothing: give a folder with .*, a hub id, or one of micro-depth"
    ):
        another("--training.init_from", str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no weights at"):
        another("--training.init_from", str(tmp_path / "empty"))
    model = another()
    model.unet.conv_in = torch.nn.Conv2d(4, 8, 3)
    with pytest.raises(InputError, match="has a different backbone: 2 of its tensors do not fit"):
        init_from(model, trained)
    (tmp_path / "small").mkdir()
    (tmp_path / "small/config.json").write_text('{"base": {"source": "micro"}}')
    with pytest.raises(InputError, match="was trained on a frozen backbone and saved without it"):
        init_from(another(), tmp_path / "small")


def test_another_largest_depth_is_reported(tmp_path, caplog):
    """Depths of a model up to 80 m came out eight times too small in a recipe up to 10 m, without a word."""
    words = [*SMALL["depth"], "--data.image_size", "64,64", "--prompts.count", "4"]
    build_model(read_recipe("micro_depth", [*words, "--task.max_depth_m", "80"])).save(tmp_path)
    with caplog.at_level(logging.WARNING):
        init_from(build_model(read_recipe("micro_depth", words)), tmp_path)
    assert "up to 80 m, this model up to 10 m: at the start, all depths are 0.125 times" in caplog.text


def test_the_folder_of_a_training_is_no_model(trained, tmp_path):
    """It said: no weights at runs/mine/model.safetensors."""
    small_model("segmentation").save(tmp_path / "last")
    with pytest.raises(InputError, match=r"is a run folder, not a model folder: give \S+/last$"):
        init_from(another(), tmp_path)
