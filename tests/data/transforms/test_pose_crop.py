import cv2
import numpy as np
import pytest

from metaprompts.data.datasets.keypoints import CocoKeypoints
from metaprompts.data.sample import Person, Sample
from metaprompts.data.transforms.affine import box_center_scale, from_crop, to_crop, udp_matrix
from metaprompts.data.transforms.pose_crop import PoseCrop
from metaprompts.errors import InputError

NAMES = ("nose", "left_hand", "right_hand")
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def dotted(points, box, visibility=2):
    """A black image with a dot of its own color at every joint."""
    image = np.zeros((200, 300, 3), np.uint8)
    for (x, y), color in zip(points, COLORS, strict=True):
        cv2.circle(image, (x, y), 4, color, -1)
    keypoints = np.array([(x, y, visibility) for x, y in points], np.float32)
    person = Person(
        keypoints=keypoints, box_xywh=np.array(box, np.float32), image_id=1, annotation_id=2, score=1.0, area=3.0
    )
    return Sample(image=image, path="a.png", person=person)


def colors_at_joints(sample):
    return [tuple(sample.image[round(float(y)), round(float(x))]) for x, y, _ in sample.person.keypoints]


class TestBox:
    @pytest.mark.parametrize(
        ("box", "aspect", "size"),
        [
            ((10, 20, 30, 80), 0.75, (60, 80)),
            ((10, 20, 30, 80), 0.25, (30, 120)),
            ((10, 20, 60, 80), 0.75, (60, 80)),
        ],
    )
    def test_grows_to_the_aspect(self, box, aspect, size):
        center, grown = box_center_scale(box, aspect, padding=1.0)
        assert center.tolist() == [box[0] + box[2] / 2, 60]
        assert grown == pytest.approx(np.array(size))

    def test_padding(self):
        assert box_center_scale((0, 0, 40, 40), 1.0)[1].tolist() == [50, 50]


class TestMatrix:
    CENTER, SIZE, OUT = (50.0, 40.0), (30.0, 60.0), (64, 128)

    def test_edges_fall_on_first_and_last_column(self):
        matrix = udp_matrix(self.CENTER, self.SIZE, 0, self.OUT)
        corners = to_crop([(35, 10), (65, 10), (35, 70), (50, 40)], matrix)
        assert corners == pytest.approx(np.array([(0, 0), (63, 0), (0, 127), (31.5, 63.5)]), abs=1e-4)

    @pytest.mark.parametrize("rotation_deg", [0, 30, -75, 180])
    def test_equals_opencv_through_three_points(self, rotation_deg):
        """Turn the content about the center first, then scale: OpenCV solves for the same matrix."""
        angle = np.deg2rad(rotation_deg)
        corners = np.array([(-15, -30), (15, -30), (-15, 30)], np.float32)
        # What lies at the corner after turning was, before, at the corner turned back.
        back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        source = (corners @ back.T + self.CENTER).astype(np.float32)
        expected = cv2.getAffineTransform(source, np.array([(0, 0), (63, 0), (0, 127)], np.float32))
        assert udp_matrix(self.CENTER, self.SIZE, rotation_deg, self.OUT) == pytest.approx(expected, abs=1e-4)

    def test_quarter_turn_is_clockwise(self):
        """What was right of the center comes below it."""
        x, y = to_crop((60, 40), udp_matrix((50, 40), (40, 40), 90, (41, 41)))
        assert (x, y) == pytest.approx((20, 30))

    def test_there_and_back(self):
        points = np.random.default_rng(0).uniform(0, 100, (5, 3, 2))
        crop = to_crop(points, udp_matrix(self.CENTER, self.SIZE, 0, self.OUT))
        assert from_crop(crop, self.CENTER, self.SIZE, self.OUT) == pytest.approx(points, abs=1e-4)

    def test_back_of_a_batch(self):
        """Centers (B, 1, 2) against points (B, J, 2)."""
        centers, sizes = np.array([[[10.0, 10.0]], [[50.0, 50.0]]]), np.array([[[4.0, 8.0]], [[20.0, 20.0]]])
        points = from_crop(np.zeros((2, 3, 2)), centers, sizes, (5, 5))
        assert points[:, 2].tolist() == [[8, 6], [40, 40]]


class TestPoseCrop:
    POINTS = ((150, 60), (120, 100), (180, 140))
    BOX = (100, 50, 100, 100)

    def crop(self, **chances):
        off = {"flip_probability": 0.0, "half_body_probability": 0.0, "rotation_probability": 0.0, "scale": (1.0, 1.0)}
        return PoseCrop(128, 96, NAMES, augment=bool(chances), **(off | chances))

    @pytest.mark.parametrize(
        "chances",
        [
            {},
            {"rotation_probability": 1.0},
            {"scale": (0.75, 1.25)},
            {"scale": (0.75, 1.25), "rotation_probability": 1.0, "rotation_deg": 60},
        ],
    )
    def test_joints_move_with_the_image(self, chances):
        generator = np.random.default_rng(0)
        for _ in range(10):
            cropped = self.crop(**chances)(dotted(self.POINTS, self.BOX), generator)
            assert cropped.image.shape == (128, 96, 3)
            assert cropped.person.keypoints[:, 2].tolist() == [2, 2, 2]
            assert np.array(colors_at_joints(cropped)) == pytest.approx(np.array(COLORS), abs=60)

    def test_mirrored_left_is_right(self):
        """In the mirror, the hand that was the right one is the left one: it has blue, the right hand's color."""
        generator = np.random.default_rng(0)
        chances = {"flip_probability": 1.0, "rotation_probability": 1.0}
        for _ in range(10):
            cropped = self.crop(**chances)(dotted(self.POINTS, self.BOX), generator)
            red, green, blue = COLORS
            assert np.array(colors_at_joints(cropped)) == pytest.approx(np.array([red, blue, green]), abs=60)

    def test_mirror_is_the_mirror_image(self):
        plain = self.crop()(dotted(self.POINTS, self.BOX), np.random.default_rng(0))
        mirrored = self.crop(flip_probability=1.0)(dotted(self.POINTS, self.BOX), np.random.default_rng(0))
        assert np.abs(mirrored.image.astype(int) - plain.image[:, ::-1]).max() <= 8
        expected = plain.person.keypoints[[0, 2, 1]] * (-1, 1, 1) + (95, 0, 0)
        assert mirrored.person.keypoints == pytest.approx(expected, abs=1e-3)

    def test_crop_maps_back(self):
        sample = dotted(self.POINTS, self.BOX)
        person = self.crop()(sample, np.random.default_rng(0)).person
        back = from_crop(person.keypoints[:, :2], person.crop.center, person.crop.size, (96, 128))
        assert back == pytest.approx(sample.person.keypoints[:, :2], abs=1e-3)
        assert (person.image_id, person.annotation_id, person.area) == (1, 2, 3.0)

    def test_outside_joints_are_not_visible(self):
        points = ((150, 60), (5, 100), (180, 140))
        keypoints = self.crop()(dotted(points, self.BOX), np.random.default_rng(0)).person.keypoints
        assert keypoints[:, 2].tolist() == [2, 0, 2]
        assert keypoints[1, 0] < 0

    def test_unlabeled_joints_stay_at_the_origin(self):
        keypoints = self.crop()(dotted(self.POINTS, self.BOX, visibility=0), np.random.default_rng(0)).person.keypoints
        assert keypoints.tolist() == [[0, 0, 0]] * 3

    def test_draws_within_bounds(self):
        """Scale and angle, measured from where three joints come to lie."""
        sample = dotted(self.POINTS, self.BOX)
        generator = np.random.default_rng(0)
        widths = [
            self.crop(scale=(0.75, 1.25))(sample, generator).person.crop.size[0] / (100 * 1.25) for _ in range(200)
        ]
        assert min(widths) == pytest.approx(0.75)
        assert max(widths) == pytest.approx(1.25)
        assert 0.95 < np.mean(widths) < 1.05

    def test_angle_is_clipped_at_twice_the_deviation(self, script):
        crop = self.crop(rotation_probability=1.0, rotation_deg=20)
        far = crop(dotted(self.POINTS, self.BOX), script(0.9, 0.0, 0.0, 5.0))
        twice = crop(dotted(self.POINTS, self.BOX), script(0.9, 0.0, 0.0, 2.0))
        once = crop(dotted(self.POINTS, self.BOX), script(0.9, 0.0, 0.0, 1.0))
        assert np.array_equal(far.image, twice.image)
        assert not np.array_equal(far.image, once.image)

    def test_wrong_number_of_names(self):
        with pytest.raises(ValueError, match="has 3 joints; expected 4"):
            PoseCrop(128, 96, (*NAMES, "neck"))(dotted(self.POINTS, self.BOX), np.random.default_rng(0))

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (NAMES[:2], "joint 'left_hand' has no counterpart on the right: .* --task.flip_pairs"),
            (("a", "b", "c"), r"mirroring is on, but no name .* \(a, b, c\): pass --task.flip_pairs .*augment.flip 0"),
            (("l_hand", "Left hand", "r_hand"), "joints 'l_hand' and 'Left hand' are the same"),
        ],
    )
    def test_names_that_do_not_say_what_is_mirrored(self, names, words):
        """Joints a, b, c stayed in place in mirror images, so that every second training sample was wrong.

        Where nothing is mirrored, names do not matter.
        """
        with pytest.raises(InputError, match=words):
            PoseCrop(128, 96, names, augment=True)
        PoseCrop(128, 96, names)
        PoseCrop(128, 96, names, augment=True, flip_probability=0)
        PoseCrop(128, 96, names, augment=True, flip_pairs=())

    def test_mirrored_by_given_pairs(self):
        """As by the names."""
        chances = {"augment": True, "flip_probability": 1.0, "half_body_probability": 0.0, "rotation_probability": 0.0}
        by_name, given = (
            PoseCrop(128, 96, names, scale=(1.0, 1.0), flip_pairs=pairs, **chances)(
                dotted(self.POINTS, self.BOX), np.random.default_rng(0)
            )
            for names, pairs in ((("nose", "HandL", "HandR"), None), (("a", "b", "c"), ((1, 2),)))
        )
        assert np.array_equal(by_name.person.keypoints, given.person.keypoints)
        assert (np.diff(by_name.person.keypoints[1:, 0]) > 0).all()

    def test_needs_a_person(self):
        with pytest.raises(ValueError, match="needs a person"):
            self.crop()(Sample(image=np.zeros((2, 2, 3), np.uint8), path=""), np.random.default_rng(0))

    @pytest.mark.parametrize("changes", [{"height": 1}, {"scale": (0, 1)}, {"flip_probability": -1}])
    def test_nonsense(self, changes):
        with pytest.raises(ValueError, match="expected"):
            PoseCrop(**({"height": 128, "width": 96, "joint_names": NAMES} | changes))


class TestHalfBody:
    NAMES = ("nose", "left_eye", "right_eye", "left_hip", "right_hip", "left_knee", "right_knee", "neck", "chest")

    def person(self, labeled=9):
        """Upper joints lie in x 10..30, y 10..20; lower ones in x 10..40, y 60..100."""
        keypoints = np.array(
            [(20, 10), (10, 10), (30, 10), (10, 60), (40, 60), (10, 100), (40, 100), (20, 20), (20, 15)], np.float32
        )
        visibility = (np.arange(9) < labeled) * 2
        keypoints = np.concatenate([keypoints, visibility[:, None]], axis=1).astype(np.float32)
        person = Person(
            keypoints=keypoints,
            box_xywh=np.array([0, 0, 60, 120], np.float32),
            image_id=0,
            annotation_id=0,
            score=1,
            area=1,
        )
        return Sample(image=np.zeros((150, 100, 3), np.uint8), path="", person=person)

    def crop(self, sample, generator):
        transform = PoseCrop(100, 100, self.NAMES, augment=True, scale=(1.0, 1.0))
        return transform(sample, generator).person.crop

    @pytest.mark.parametrize(
        # draws: flip, half?, upper?, scale, rotate?
        ("draws", "center", "side"),
        [
            ((0.9, 0.2, 0.69, 0.0, 0.9), (20, 13), 1.5 * 20),
            ((0.9, 0.2, 0.7, 0.0, 0.9), (25, 80), 1.5 * 40),
            ((0.9, 0.3, 0.0, 0.9), (30, 60), 1.25 * 120),
        ],
    )
    def test_upper_lower_or_whole(self, script, draws, center, side):
        crop = self.crop(self.person(), script(*draws))
        assert crop.center == pytest.approx(np.array(center))
        assert crop.size == pytest.approx(np.array([side, side]))

    def test_unlabeled_joints_do_not_count(self, script):
        """The chest, at (90, 90) but not labeled, is not part of the upper body: x 10..30, y 10..20 as before."""
        sample = self.person(labeled=8)
        sample.person.keypoints[8] = (90, 90, 0)
        transform = PoseCrop(100, 100, self.NAMES, augment=True, scale=(1.0, 1.0), half_body_joints=7)
        crop = transform(sample, script(0.9, 0.2, 0.4, 0.0, 0.9)).person.crop
        assert crop.center == pytest.approx(np.array((20, 12.5)))
        assert crop.size == pytest.approx(np.array([30, 30]))

    @pytest.mark.parametrize("joints", [tuple("abcdefghi"), tuple(f"hip{number}" for number in range(9))])
    def test_names_that_do_not_tell_upper_from_lower(self, joints):
        """LHip and RKNEE were joints of the upper body, and half a body was the whole one."""
        with pytest.raises(InputError, match=r"half-body crops .* do not distinguish .* --task.lower_body INDEX"):
            PoseCrop(100, 100, joints, augment=True, flip_probability=0)
        PoseCrop(100, 100, joints, augment=True, flip_probability=0, lower_body=(3, 4))
        PoseCrop(100, 100, joints[:8], augment=True, flip_probability=0)

    def test_not_with_eight_joints(self, script):
        """No draw is made at all."""
        assert self.crop(self.person(labeled=8), script(0.9, 0.0, 0.9)).center.tolist() == [30, 60]


def test_real_persons(shared_data):
    """Every visible joint of a real person is inside its padded box, and maps back to where it was."""
    dataset = CocoKeypoints(shared_data / "formats/coco", "annotations/person_keypoints_val2017.json", "val2017")
    crop = PoseCrop(576, 448, dataset.joint_names)
    for sample in (dataset[0], dataset[5]):
        person = crop(sample, np.random.default_rng(0)).person
        visible = person.keypoints[:, 2] > 0
        assert visible.sum() == (sample.person.keypoints[:, 2] > 0).sum()
        back = from_crop(person.keypoints[visible, :2], person.crop.center, person.crop.size, (448, 576))
        assert back == pytest.approx(sample.person.keypoints[visible, :2], abs=1e-2)
