"""Views of images go through the model in passes, and are not all held at a time."""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from metaprompts.analysis.prompts import image_prompt_maps
from metaprompts.errors import InputError
from metaprompts.inference.predict import predict_many
from metaprompts.tasks.preprocess import ModelInput
from small import small_model


class Counting:
    """A model whose raw outputs are the first values of its views; boxes are sides of views, from left to right."""

    training = False
    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(working_size=None)

    def __init__(self):
        self.task = self
        self.passes, self.alive, self.most = [], weakref.WeakSet(), 0

    def train(self, mode=True):
        pass

    def eval(self):
        pass

    def __call__(self, images, context):
        self.passes.append((images.shape[-1], len(images)))
        return images[:, 0, 0, :1]

    def model_inputs(self, image, working_size, boxes):
        for number, side in enumerate(boxes):
            view = ModelInput(image=torch.full((3, 1, side), float(number)), box_xywh=np.zeros(4, np.float32))
            self.alive.add(view)
            self.most = max(self.most, len(self.alive))
            yield view

    def assemble(self, image, outputs):
        return [int(raw) for _, raw in outputs]


def random_images(*boxes):
    return [(np.zeros((1, 1, 3), np.uint8), each) for each in boxes]


def test_as_many_views_are_held_as_go_through_together():
    """14,000 boxes in one image took over 3 GB: all were cut out before the first went through the model."""
    model = Counting()
    ((found),) = predict_many(model, random_images([8] * 1000), 4)
    assert found == list(range(1000))
    assert model.passes == [(8, 4)] * 250
    assert model.most <= 9


def test_images_share_passes_and_keep_their_order():
    """Of one size as many go together as fit; images without boxes are there, too."""
    model = Counting()
    boxes = ([], [8, 16, 8], [8], [], [16, 8], [])
    found = list(predict_many(model, random_images(*boxes), 6, lambda size: 3 if size[1] == 8 else 2))
    assert found == [list(range(len(each))) for each in boxes]
    assert model.passes == [(8, 3), (16, 2), (8, 1)]


def test_maps_of_too_many_boxes_are_refused(monkeypatch):
    """A map for each prompt and box is held until all are drawn."""
    model = small_model("pose")
    monkeypatch.setattr("metaprompts.analysis.prompts._MOST_HELD", 2000)
    image = np.zeros((64, 64, 3), np.uint8)
    assert len(image_prompt_maps(model, image, boxes=[(0, 0, 9, 9)]).maps) == 1
    with pytest.raises(InputError, match=r"the maps of all boxes take .* GB, but the limit is .*: give fewer boxes"):
        image_prompt_maps(model, image, boxes=[(0, 0, 9, 9)] * 14000)
