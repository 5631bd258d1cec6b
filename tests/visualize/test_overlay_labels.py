import cv2
import numpy as np
import pytest

from metaprompts.errors import InputError
from metaprompts.visualize.segmentation import class_legend, overlay_labels, palette


def lab(colors):
    return cv2.cvtColor(colors[:, None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[:, 0]


@pytest.mark.parametrize("classes", [1, 19, 150, 256, 257, 3000])
def test_colors_are_distinct_and_do_not_depend_on_their_number(classes):
    colors = palette(classes)
    assert colors.shape == (classes, 3)
    assert colors.dtype == np.uint8
    assert len(np.unique(colors, axis=0)) == classes
    assert (colors == palette(4000)[:classes]).all()


@pytest.mark.parametrize(("classes", "difference"), [(20, 15), (150, 10)])
def test_colors_can_be_distinguished(classes, difference):
    """A difference of 2.3 in CIELAB is just noticeable side by side; tints over an image need several times that."""
    colors = lab(palette(classes))
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1) + 1000 * np.eye(classes)
    assert distances.min() > difference


def test_a_changed_palette_changes_no_other():
    palette(5)[:] = 0
    assert palette(5).any()


def test_overlay_by_hand():
    """Away from borders: half image, half color; ignored pixels stay."""
    image = np.full((6, 6, 3), 100, np.uint8)
    labels = np.zeros((6, 6), np.uint8)
    labels[:, 3:] = 255
    drawn = overlay_labels(image, labels, np.array([[200, 0, 101]], np.uint8), opacity=0.5)
    assert drawn[2, 1].tolist() == [150, 50, 100]
    assert drawn[2, 4].tolist() == [100, 100, 100]
    assert (image == 100).all()


def test_borders_are_stronger_than_the_inside():
    labels = np.repeat([[0, 0, 0, 1, 1, 1]], 6, axis=0)
    drawn = overlay_labels(np.zeros((6, 6, 3), np.uint8), labels, np.array([[200, 0, 0], [0, 200, 0]], np.uint8), 0.5)
    assert drawn[2, :, 1].tolist() == [0, 0, 0, 160, 100, 100]


@pytest.mark.parametrize("size", [(1, 1), (20000, 50), (50, 20000)])
def test_any_size(size):
    image, labels = np.zeros((*size, 3), np.uint8), np.ones(size, np.uint16)
    assert overlay_labels(image, labels, palette(3)).shape == (*size, 3)
    strip = class_legend(["a", "b"], palette(2), size[1])
    assert strip.shape[1] == max(size[1], 160)


def test_legend_shows_every_color_and_grows_with_them():
    colors = palette(60)
    strip = class_legend([f"class number {index}" for index in range(60)], colors, 400)
    shown = {tuple(color) for color in strip.reshape(-1, 3).tolist()}
    assert {tuple(color) for color in colors.tolist()} <= shown
    assert len(strip) > len(class_legend(["road"], colors[:1], 400))


def test_legend_shortens_names_that_do_not_fit():
    colors = palette(1)
    strip = class_legend(["a very long name " * 20], colors, 200)
    assert strip.shape == class_legend(["road"], colors, 200).shape
    assert (strip[:, -4:] == strip[0, 0]).all(), "text runs into the margin"


def test_sizes_must_agree():
    with pytest.raises(InputError, match="of the image's size"):
        overlay_labels(np.zeros((2, 2, 3), np.uint8), np.zeros((3, 2), np.uint8), palette(2))
