"""What captions ask for, and whether it is found."""

import math

import numpy as np
import pytest
from caption_presence import NOUN_CLASSES, asked_classes, presence

from metaprompts.synthetic import CLASSES, generate_scene


def test_nouns_are_found_whole_and_in_plural():
    caption = (
        "a street with brick houses under a clear sky, two street lamps, three firs, an autumn tree, "
        "two vans: a red one and a blue one, a person walking in a green shirt"
    )
    assert asked_classes(caption) == {"road", "pole", "tree", "car", "person"}
    room = "a room with white walls and a carpeted floor, a pink hanging lamp, two armchairs, two bookshelves"
    assert asked_classes(room) == {"wall", "lamp", "sofa", "cabinet"}
    assert asked_classes("a poster of carpets and vanity") == set()


def test_every_class_that_is_asked_for_exists():
    assert set(NOUN_CLASSES.values()) <= set(CLASSES)


@pytest.mark.parametrize("seed", range(960, 972))
def test_a_true_scene_shows_what_its_caption_asks_for(seed):
    scene = generate_scene(seed, 64, 96)
    shown = {CLASSES[label] for label in np.unique(scene.labels)}
    assert asked_classes(scene.caption) <= shown, scene.caption


def test_shares_by_hand():
    classes = ("wall", "car", "ball")
    captions = ["a street, a car", "a street, a car", "a room, a ball", "a room"]
    labels = [np.zeros((10, 10), int) for _ in captions]
    labels[0][0, :3] = 1
    labels[2][0, 0] = 1
    labels[3][0, :2] = 1
    found = presence(captions, labels, classes, smallest_share=0.02)
    assert (found["car"].asked, found["car"].found_if_asked, found["car"].found_if_not) == (2, 0.5, 0.5)
    assert (found["ball"].asked, found["ball"].found_if_asked, found["ball"].found_if_not) == (1, 0.0, 0.0)
    assert found["wall"].found_if_not == 1.0
    assert set(found) == {"wall", "car", "ball"}
    assert math.isnan(presence(captions[:2], labels[:2], classes, smallest_share=0.02)["car"].found_if_not)
