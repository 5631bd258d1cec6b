import logging

import pytest
import torch

from metaprompts.errors import InputError
from metaprompts.recipe_reading import read_recipe
from metaprompts.training.loop import build_model
from metaprompts.training.starting import start_from
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
    model = another("--training.start_from", str(trained))
    first = small_model("segmentation").state_dict()
    assert all(torch.equal(tensor, first[name]) for name, tensor in model.state_dict().items())
    assert not caplog.records


def test_a_head_of_other_classes_stays_fresh_and_is_named_in_one_line(trained, caplog):
    model = another("--task.classes", "a,b,c")
    before = model.head.classify.weight.clone()
    with caplog.at_level(logging.WARNING):
        assert start_from(model, trained) == ["auxiliary_head.classify", "head.classify"]
    assert torch.equal(model.head.classify.weight, before)
    (record,) = caplog.records
    assert record.getMessage().endswith("fresh are auxiliary_head.classify, head.classify")
    assert torch.equal(model.unet.conv_in.weight, small_model("segmentation").unet.conv_in.weight)


def test_bad_folders_are_told(trained, tmp_path):
    with pytest.raises(InputError, match="no weights at"):
        another("--training.start_from", str(tmp_path / "nothing"))
    model = another()
    model.unet.conv_in = torch.nn.Conv2d(4, 8, 3)
    with pytest.raises(InputError, match="has another backbone: 2 of its tensors do not fit"):
        start_from(model, trained)
    (tmp_path / "small").mkdir()
    (tmp_path / "small/config.json").write_text('{"base": {"source": "micro"}}')
    with pytest.raises(InputError, match="was trained on a frozen backbone and saved without it"):
        start_from(another(), tmp_path / "small")
