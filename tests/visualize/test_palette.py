import numpy as np
import pytest

from metaprompts.recipes.loader import read_recipe
from metaprompts.synthetic.world import CLASSES
from metaprompts.visualize.segmentation import OPACITY, class_colors, overlay_labels, palette
from visualize.color_difference import EYES, ciede2000, lab


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_differences_are_those_of_the_publication(first, second, difference):
    assert ciede2000(np.array(first), np.array(second)) == pytest.approx(difference, abs=1e-4)


# Colors side by side can just be distinguished at 1 to 2.
@pytest.mark.parametrize(
    ("eyes", "classes", "least"),
    [
        *(("normal", 11, 12), ("normal", 20, 11)),
        *((eyes, classes, 7) for eyes in EYES if eyes != "normal" for classes in (11, 17, 20)),
    ],
)
@pytest.mark.parametrize("gray", [60, 128, 200])
def test_classes_over_a_image_can_be_distinguished(eyes, classes, least, gray):
    """Pedestrian and sign, and fence and pavement, were alike: two of 20 differed by 0.9 to red-blind eyes."""
    image, labels = np.full((3 * classes, 3, 3), gray, np.uint8), np.repeat(np.arange(classes), 3)[:, None]
    drawn = overlay_labels(image, labels.repeat(3, axis=1), palette(classes))[2::3, 2]
    seen = lab(drawn, eyes)
    differences = ciede2000(seen[:, None], seen[None]) + 1000 * np.eye(classes)
    assert differences.min() > least


@pytest.mark.parametrize("classes", [5, 11, 14])
def test_classes_over_light_and_dark_parts_can_be_distinguished(classes):
    """A bright sky and a dark road both appeared cyan: their colors differed in lightness, as sky and road do."""
    colors = palette(classes)[:, None].astype(float)
    grays = np.array([60, 100, 140, 200])[None, :, None]
    seen = lab((grays + OPACITY * (colors - grays)).reshape(-1, 3))
    differences = ciede2000(seen[:, None], seen[None])
    owner = np.arange(classes).repeat(grays.size)
    assert differences[owner[:, None] != owner[None]].min() > 10


def test_a_class_has_the_same_color_in_every_model():
    """After fine-tuning to other classes, the road was green and the sky blue where they were purple and brown."""
    colors = dict(zip(CLASSES, class_colors(CLASSES).tolist(), strict=True))
    assert (class_colors(CLASSES) == palette(len(CLASSES))).all()
    names = ["Dog", "road", "cat", "Sky ", "road"]
    others = class_colors(names).tolist()
    assert (others[1], others[3]) == (colors["road"], colors["sky"])
    assert len({tuple(color) for color in others}) == len(names)


@pytest.mark.parametrize("recipe", ["ade20k", "cityscapes", "mapillary", "micro_segmentation", "scenes_segmentation"])
def test_neighbors_in_a_legend_can_be_distinguished(recipe):
    """Legends list classes in their order, so swatches side by side need the largest differences."""
    seen = lab(class_colors(read_recipe(recipe, []).task.classes))
    assert ciede2000(seen[1:], seen[:-1]).min() > 10
