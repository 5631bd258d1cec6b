import numpy as np
import pytest

from metaprompts.errors import InputError
from metaprompts.visualize.pose import LEFT, MIDDLE, RIGHT, draw_skeleton

JOINTS = ("left_hip", "left_knee", "right_hip", "right_knee", "nose")
SKELETON = ((0, 1), (2, 3), (0, 2))
POINTS = np.array([[[150.0, 50], [150, 150], [50, 50], [50, 150], [100, 20]]])


def drawn(points=POINTS, scores=None, size=(200, 200), **options):
    scores = np.ones(points.shape[:2]) if scores is None else scores
    return draw_skeleton(np.full((*size, 3), 128, np.uint8), points, scores, SKELETON, **options)


def test_sides_have_their_colors():
    image = drawn(joints=JOINTS)
    assert tuple(image[100, 150]) == LEFT
    assert tuple(image[100, 50]) == RIGHT
    assert tuple(image[50, 100]) == MIDDLE
    assert tuple(image[20, 100]) == MIDDLE


def test_without_names_nobody_has_sides():
    assert tuple(drawn()[100, 150]) == MIDDLE


def test_doubtful_joints_take_their_limbs_along():
    scores = np.array([[1, 0.29, 1, 0.3, 1]])
    image = drawn(scores=scores, joints=JOINTS)
    assert tuple(image[100, 150]) == (128, 128, 128)
    assert tuple(image[100, 50]) == RIGHT


def test_joints_that_are_nowhere_are_left_out():
    points = POINTS.copy()
    points[0, 1], points[0, 3], points[0, 4] = np.nan, np.inf, 1e30
    image = drawn(points, joints=JOINTS)
    assert image[50, 100] == pytest.approx(MIDDLE, abs=40)
    assert (image[60:] == 128).all()


def test_lines_grow_with_the_person():
    def width_of(scale):
        row = drawn(POINTS * scale, size=(int(400 * scale), int(400 * scale)))[int(100 * scale), int(100 * scale) :]
        return (row != 128).any(-1).sum()

    assert width_of(1) < width_of(4) < width_of(8)


def test_the_given_image_is_not_drawn_on():
    image = np.zeros((200, 200, 3), np.uint8)
    draw_skeleton(image, POINTS, np.ones((1, 5)), SKELETON)
    assert not image.any()


def test_nobody_leaves_the_image():
    assert (drawn(np.zeros((0, 5, 2))) == 128).all()


@pytest.mark.parametrize("size", [(1, 1), (20000, 50), (50, 20000)])
def test_any_size(size):
    assert drawn(POINTS * 100, size=size).shape == (*size, 3)


def test_a_person_far_down_is_drawn_there():
    image = drawn(POINTS / 5 + [0, 19900], size=(20000, 50), joints=JOINTS)
    assert image[19900 + 20, 30] == pytest.approx(LEFT, abs=40)


def test_scores_must_belong_to_keypoints():
    with pytest.raises(InputError, match="expected \\(P,J,2\\)"):
        drawn(scores=np.ones((1, 4)))
