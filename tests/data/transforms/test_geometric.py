import numpy as np
import pytest

from metaprompts.data.sample import Person, Sample
from metaprompts.data.transforms.geometric import (
    Pad,
    RandomCrop,
    RandomFlip,
    RandomResize,
    keep_aspect,
    largest_class_share,
    resize,
)


def numbered(height, width):
    """A sample in which image, labels and depth tell the place of every pixel: 10 * row + column."""
    place = (10 * np.arange(height)[:, None] + np.arange(width)).astype(np.uint8)
    return Sample(
        image=np.repeat(place[:, :, None], 3, axis=2), path="a.png", labels=place, depth_m=place.astype(np.float32)
    )


def all_equal(sample, expected):
    assert sample.labels.tolist() == expected
    assert sample.depth_m.tolist() == expected
    assert sample.image[:, :, 0].tolist() == expected
    return True


class TestScale:
    @pytest.mark.parametrize(
        ("size", "scale", "expected"),
        [
            ((512, 1024), (2048, 512), (512, 1024)),
            # The longest side binds: 4096 -> 2048.
            ((512, 4096), (2048, 512), (256, 2048)),
            ((1024, 2048), (2048, 1024), (1024, 2048)),
            ((683, 512), (2048, 512), (683, 512)),
            ((375, 500), (2048, 512), (512, 683)),
            ((10, 10000), (100, 100), (1, 100)),
            ((1, 10000), (100, 100), (1, 100)),
        ],
    )
    def test_keep_aspect(self, size, scale, expected):
        assert keep_aspect(*size, longest=scale[0], shortest=scale[1]) == expected

    def test_ratio(self, script):
        """(40, 20) x 1.5 = (60, 30): an image of 10x16 grows by 3 to 30x48."""
        scaled = RandomResize(20, 40, (0.5, 2.0), keeps_aspect=True)(numbered(10, 16), script(1.5))
        assert scaled.image.shape == (30, 48, 3)
        assert scaled.labels.shape == scaled.depth_m.shape == (30, 48)

    def test_all_ratios_are_drawn(self):
        generator = np.random.default_rng(0)
        scale = RandomResize(400, 100, (0.5, 2.0), keeps_aspect=True)
        heights = [scale(numbered(10, 16), generator).image.shape[0] for _ in range(200)]
        assert 50 <= min(heights) < 60
        assert 190 < max(heights) <= 200

    def test_labels_and_depth_are_never_mixed(self):
        """Between label 0 and label 200 or 0 m and 200 m nothing new appears; the image is blended."""
        values = np.array([[0, 200]], np.uint8)
        sample = Sample(
            image=np.repeat(values[:, :, None], 3, 2), path="", labels=values, depth_m=values.astype(np.float32)
        )
        resized = resize(sample, 3, 7)
        assert set(np.unique(resized.labels)) == set(np.unique(resized.depth_m)) == {0, 200}
        assert len(np.unique(resized.image)) > 2
        assert resized.labels.dtype == np.uint8
        assert resized.depth_m.dtype == np.float32

    @pytest.mark.parametrize("arguments", [(0, 5), (5, 5, (0, 1)), (5, 5, (2, 1))])
    def test_nonsense(self, arguments):
        with pytest.raises(ValueError, match="expected"):
            RandomResize(*arguments, keeps_aspect=True)


class TestResize:
    def test_bilinear(self):
        """Twice as wide: new column j lies at old (j + 0.5) / 2 - 0.5, clamped: -0.25, 0.25, 0.75, 1.25."""
        values = np.array([[0, 200]], np.uint8)
        sample = Sample(image=np.repeat(values[:, :, None], 3, 2), path="", labels=values)
        resized = resize(sample, 1, 4)
        assert resized.image[0, :, 0].tolist() == [0, 50, 150, 200]
        assert resized.labels.tolist() == [[0, 0, 200, 200]]

    def test_fixed(self, script):
        resized = RandomResize(4, 10)(numbered(2, 5), script(1.0))
        assert resized.labels.tolist() == np.kron(numbered(2, 5).labels, np.ones((2, 2))).tolist()
        assert resized.image.shape == (4, 10, 3)
        assert resized.depth_m.tolist() == resized.labels.tolist()

    def test_own_size_is_left_alone(self, script):
        sample = numbered(4, 6)
        assert RandomResize(4, 6)(sample, script(1.0)) is sample

    def test_shape_is_not_kept(self, script):
        """(10, 4) x 1.25 = 12.5 and 5; halves are rounded to even."""
        assert RandomResize(10, 4, (0.5, 2.0))(numbered(6, 9), script(1.25)).image.shape == (12, 5, 3)

    def test_never_empty(self, script):
        assert RandomResize(1, 1, (0.1, 2.0))(numbered(3, 3), script(0.1)).labels.shape == (1, 1)

    @pytest.mark.parametrize("arguments", [(0, 5), (5, 0), (5, 5, (0, 1)), (5, 5, (2, 1))])
    def test_nonsense(self, arguments):
        with pytest.raises(ValueError, match="expected"):
            RandomResize(*arguments)


class TestPad:
    def test_right_and_bottom(self):
        padded = Pad(3, 4)(numbered(2, 3), np.random.default_rng(0))
        assert padded.labels.tolist() == [[0, 1, 2, 255], [10, 11, 12, 255], [255] * 4]
        assert padded.depth_m.tolist() == [[0, 1, 2, 0], [10, 11, 12, 0], [0] * 4]
        for channel in range(3):
            assert padded.image[:, :, channel].tolist() == [[0, 1, 2, 128], [10, 11, 12, 128], [128] * 4]
        assert (padded.image.dtype, padded.labels.dtype, padded.depth_m.dtype) == (np.uint8, np.uint8, np.float32)

    def test_only_one_side(self):
        assert Pad(1, 3)(numbered(2, 2), np.random.default_rng(0)).labels.tolist() == [[0, 1, 255], [10, 11, 255]]

    def test_large_enough(self):
        sample = numbered(3, 4)
        assert Pad(3, 2)(sample, np.random.default_rng(0)) is sample


class TestCrop:
    def test_place(self, script):
        assert all_equal(RandomCrop(2, 3)(numbered(4, 5), script(2, 1)), [[21, 22, 23], [31, 32, 33]])

    def test_every_place(self):
        generator = np.random.default_rng(0)
        corners = {RandomCrop(2, 3)(numbered(4, 5), generator).labels[0, 0] for _ in range(200)}
        assert corners == {10 * top + left for top in range(3) for left in range(3)}

    def test_of_a_smaller_image_all_is_left(self, script):
        """Of the side that is long enough a part is cut; padding comes later."""
        assert all_equal(RandomCrop(3, 2)(numbered(2, 3), script(0, 1)), [[1, 2], [11, 12]])
        assert all_equal(RandomCrop(3, 4)(numbered(2, 3), script(0, 0)), [[0, 1, 2], [10, 11, 12]])

    @pytest.mark.parametrize(
        ("labels", "share"),
        [([[0, 0, 0, 1]], 0.75), ([[3, 255, 255, 255]], 1), ([[255]], 1), ([[5, 6], [7, 254]], 0.25)],
    )
    def test_largest_class_share(self, labels, share):
        assert largest_class_share(np.array(labels, np.uint8)) == share

    def test_share_of_a_window(self):
        """A window is a view that is not contiguous: what lies next to it must not be counted."""
        labels = np.full((6, 8), 9, np.uint8)
        labels[1:3, 2:6] = [[0, 0, 1, 255], [0, 2, 3, 254]]
        assert largest_class_share(labels[1:3, 2:6]) == pytest.approx(3 / 7)

    def test_draws_again_while_one_class_prevails(self, script):
        """Columns 0 and 1 are one class, columns 2 and 3 two: the third place is the first good one."""
        sample = Sample(image=np.zeros((1, 4, 3), np.uint8), path="", labels=np.array([[4, 4, 8, 9]], np.uint8))
        cropped = RandomCrop(1, 2, max_class_share=0.75)(sample, script(0, 0, 0, 0, 0, 2))
        assert cropped.labels.tolist() == [[8, 9]]

    def test_gives_up_after_ten_tries(self, script):
        sample = Sample(image=np.zeros((1, 4, 3), np.uint8), path="", labels=np.full((1, 4), 4, np.uint8))
        cropped = RandomCrop(1, 2, max_class_share=0.75)(sample, script(*[0] * 22))
        assert cropped.labels.tolist() == [[4, 4]]

    @pytest.mark.parametrize("arguments", [(0, 2), (2, 2, 0.0), (2, 2, 1.5)])
    def test_nonsense(self, arguments):
        with pytest.raises(ValueError, match="expected"):
            RandomCrop(*arguments)


class TestFlip:
    def test_mirrors_all(self, script):
        assert all_equal(RandomFlip()(numbered(2, 3), script(0.49)), [[2, 1, 0], [12, 11, 10]])

    def test_leaves_as_is(self, script):
        sample = numbered(2, 3)
        assert RandomFlip()(sample, script(0.5)) is sample

    def test_probability(self):
        with pytest.raises(ValueError, match=r"probability is 1\.5"):
            RandomFlip(1.5)


def test_joints_are_not_left_behind():
    """Resizing only the image would silently misplace every joint."""
    person = Person(
        keypoints=np.zeros((1, 3), np.float32),
        box_xywh=np.ones(4, np.float32),
        image_id=0,
        annotation_id=0,
        score=1,
        area=1,
    )
    sample = Sample(image=np.zeros((4, 4, 3), np.uint8), path="", person=person)
    with pytest.raises(ValueError, match="PoseCrop"):
        resize(sample, 2, 2)
