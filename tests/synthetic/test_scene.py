"""Generated scenes: their truth, checked from outside."""

import hashlib
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from metaprompts.data.joints import COCO_JOINTS
from metaprompts.errors import InputError
from metaprompts.synthetic import CLASSES, generate_scene
from metaprompts.synthetic.camera import camera_from_angles
from metaprompts.synthetic.captions import caption
from metaprompts.synthetic.people import build_person, random_clothes
from metaprompts.synthetic.poses import Arm, Leg, Posture
from metaprompts.synthetic.rng import Rng
from metaprompts.synthetic.vectors import Vector
from metaprompts.synthetic.world import Thing

SEEDS = range(900, 924)


@pytest.fixture(scope="module")
def scenes():
    return [generate_scene(seed) for seed in SEEDS]


def digest(scene):
    total = hashlib.sha256(scene.caption.encode())
    arrays = [scene.image, scene.depth_m, scene.labels, scene.things, scene.intrinsics]
    for array in arrays + [person.keypoints for person in scene.people]:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def test_same_seed_gives_the_same_scene_and_another_another():
    assert digest(generate_scene(3)) == digest(generate_scene(3))
    assert digest(generate_scene(3)) != digest(generate_scene(4))


def test_scene_is_the_same_without_the_processors_vector_units():
    """Sums and products are exact everywhere; sines, powers or matrix products would differ here."""
    program = (
        "import hashlib; from metaprompts.synthetic import generate_scene\n"
        "for seed in (3, 5, 9):\n"
        "    s = generate_scene(seed)\n"
        "    print(hashlib.sha256(s.image.tobytes() + s.depth_m.tobytes() + s.caption.encode()).hexdigest())"
    )
    outputs = set()
    for switched_off in ("", "AVX2 FMA3 AVX512F AVX512_SKX AVX512_ICL"):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": switched_off}
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        outputs.add(run.stdout)
    assert len(outputs) == 1


def test_known_scenes_have_not_changed():
    """Models are trained on these: whoever changes the renderer changes their data."""
    small = [generate_scene(seed, 64, 96) for seed in (0, 1, 2, 3)]
    total = hashlib.sha256(b"".join(scene.image.tobytes() + scene.depth_m.tobytes() for scene in small))
    assert total.hexdigest() == "81bdb1be2610ffece5210b750e2e96c62491a3465aea5b96a4e390531af32a38"


@pytest.mark.slow
def test_arrays_have_their_shapes_and_ranges(scenes):
    for scene in scenes:
        assert scene.image.shape == (128, 192, 3)
        assert scene.image.dtype == np.uint8
        assert scene.depth_m.dtype == np.float32
        assert scene.depth_m.min() >= 0
        assert np.isfinite(scene.depth_m).all()
        assert scene.labels.max() < len(CLASSES)
        assert scene.image.std() > 10
    assert {scene.kind for scene in scenes} == {"room", "street"}


def test_only_the_sky_has_no_depth(scenes):
    for scene in scenes:
        np.testing.assert_array_equal(scene.depth_m == 0, scene.labels == CLASSES.index("sky"))
        np.testing.assert_array_equal(scene.things == -1, scene.labels == CLASSES.index("sky"))


def test_rooms_and_streets_hold_what_belongs_there(scenes):
    indoors = {"wall", "floor", "ceiling", "table", "sofa", "cabinet", "lamp", "ball"}
    outdoors = {"road", "pavement", "building", "tree", "sky", "car", "pole", "sign"}
    seen = {"room": set(), "street": set()}
    for scene in scenes:
        seen[scene.kind] |= {CLASSES[label] for label in np.unique(scene.labels)}
    assert seen["room"] <= indoors | {"person"}
    assert seen["street"] <= outdoors | {"person"}
    assert len(seen["room"] | seen["street"]) >= 15


def test_a_thing_has_one_label(scenes):
    for scene in scenes:
        for thing in np.unique(scene.things):
            assert len(np.unique(scene.labels[scene.things == thing])) == 1


def test_depth_jumps_only_where_something_else_begins(scenes):
    """Inside one label of a level surface, depth between neighbors changes smoothly: its slope changes little."""
    for scene in scenes:
        for label in ("floor", "road", "ceiling"):
            here = scene.labels == CLASSES.index(label)
            # Along a row the inverse depth of a plane is linear.
            inverse = 1 / np.where(here, scene.depth_m, 1)
            inner = here[:, :-2] & here[:, 1:-1] & here[:, 2:]
            bend = np.abs(inverse[:, :-2] - 2 * inverse[:, 1:-1] + inverse[:, 2:])[inner]
            # Rugs and crossings lie on the plane, a centimeter or two higher.
            assert bend.size < 200 or np.percentile(bend, 90) < 1e-4


def test_walls_of_a_room_stand_on_its_floor(scenes):
    """Points rebuilt from depth and intrinsics: every floor pixel has the same height below the camera."""
    for scene in (scene for scene in scenes if scene.kind == "room"):
        floor = (scene.labels == CLASSES.index("floor")) & (scene.depth_m > 0)
        if floor.sum() < 300:
            continue
        rows, columns = np.nonzero(floor)
        pixels = np.stack([columns, rows, np.ones_like(rows)]).astype(float)
        points = np.linalg.inv(scene.intrinsics) @ pixels * scene.depth_m[floor]
        middle = points.mean(1, keepdims=True)
        spread = np.linalg.svd(points - middle, full_matrices=False)[1] / np.sqrt(points.shape[1])
        assert spread[2] < 0.02
        assert spread[1] > 0.05


def test_same_view_at_other_sizes(scenes):
    large = generate_scene(SEEDS[0], 256, 384)
    small = scenes[0]
    np.testing.assert_allclose(large.intrinsics[0, 0], 2 * small.intrinsics[0, 0])
    shrunk = large.image.reshape(128, 2, 192, 2, 3).mean((1, 3))
    assert np.abs(shrunk - small.image).mean() < 6
    assert generate_scene(1, 65, 97).image.shape == (65, 97, 3)


@pytest.mark.parametrize("arguments", [(-1,), (0, 8, 192), (0, 128, 100000)])
def test_impossible_scenes_are_refused(arguments):
    with pytest.raises(InputError, match="expected"):
        generate_scene(*arguments)
    with pytest.raises(InputError, match="beach"):
        generate_scene(0, kind="beach")


class TestPeople:
    CAMERA = camera_from_angles(Vector(0, 1.4, 0), yaw_deg=12, pitch_deg=-5, opening_deg=60, height=128, width=192)

    def straight(self, facing):
        down = Arm(10, 0, 5, 0)
        posture = Posture(doing="", left_arm=down, right_arm=down, left_leg=Leg(0, 0), right_leg=Leg(0, 0))
        return build_person(Vector(0.4, 0, 4), facing, 1.8, posture, random_clothes(Rng(0)))

    def test_joints_are_named_as_in_coco(self):
        assert tuple(self.straight(0).joints) == COCO_JOINTS

    def test_left_is_the_persons_own(self):
        """Who looks at the camera has the left shoulder on the image's right; who looks away, on its left."""
        for facing, sign in ((180, 1), (0, -1)):
            joints = self.straight(facing).joints
            for name in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
                left = self.CAMERA.project(*joints[f"left_{name}"])[0]
                right = self.CAMERA.project(*joints[f"right_{name}"])[0]
                assert np.sign(left - right) == sign, (facing, name)

    def test_who_faces_the_camera_has_the_nose_in_front(self):
        toward, away = self.straight(180).joints, self.straight(0).joints
        assert toward["nose"].z < toward["left_ear"].z
        assert away["nose"].z > away["left_ear"].z

    def test_body_is_as_tall_as_said_and_stands_on_the_ground(self):
        solids = self.straight(180).thing.solids
        highest = max(
            solid.center.y + solid.sizes[1] * (1 + solid.half_length) for solid in solids if solid.shape == "ellipsoid"
        )
        assert highest == pytest.approx(1.8, abs=0.05)
        assert min(self.straight(180).joints.values(), key=lambda joint: joint.y).y == pytest.approx(0.081, abs=0.01)

    def test_projection_is_the_pinhole_formula(self):
        """Rotation written as matrices, by hand."""
        joint = self.straight(180).joints["left_wrist"]
        yaw, pitch = np.radians(12), np.radians(-5)
        turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
        tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        x, y, z = tilt @ turn @ (np.array(joint) - [0, 1.4, 0])
        expected = self.CAMERA.matrix @ [x, -y, z] / z
        np.testing.assert_allclose(self.CAMERA.project(*joint)[:2], expected[:2], rtol=1e-9)

    def test_keypoints_agree_with_the_depth_buffer(self, scenes):
        """A seen joint lies at the surface or a limb's thickness under it; a hidden one is well behind something."""
        seen = hidden = 0
        for scene in scenes:
            for person in scene.people:
                for x, y, flag in person.keypoints:
                    if flag == 2:
                        assert scene.things[round(float(y)), round(float(x))] is not None
                        seen += scene.things[round(float(y)), round(float(x))] == person.thing
                    hidden += flag == 1
        total_seen = sum(int((person.keypoints[:, 2] == 2).sum()) for scene in scenes for person in scene.people)
        assert total_seen > 50
        assert hidden > 10
        assert seen > 0.85 * total_seen

    def test_boxes_hold_the_visible_pixels(self, scenes):
        for scene in scenes:
            for person in scene.people:
                rows, columns = np.nonzero(scene.things == person.thing)
                left, top, wide, high = person.box_xywh
                assert (left, top) == (columns.min(), rows.min())
                assert (left + wide, top + high) == (columns.max() + 1, rows.max() + 1)
                assert person.area == len(rows)

    def test_mirrored_scene_mirrors_people(self, scenes):
        scene = next(scene for scene in scenes if any((person.keypoints[:, 2] > 0).all() for person in scene.people))
        place = next(n for n, person in enumerate(scene.people) if (person.keypoints[:, 2] > 0).all())
        plain, mirrored = scene.people[place].keypoints, scene.mirrored().people[place].keypoints
        left, right = COCO_JOINTS.index("left_wrist"), COCO_JOINTS.index("right_wrist")
        assert mirrored[left, 0] == pytest.approx(191 - plain[right, 0], abs=1e-4)
        assert mirrored[left, 1:].tolist() == plain[right, 1:].tolist()
        np.testing.assert_array_equal(scene.mirrored().labels, scene.labels[:, ::-1])
        twice = scene.mirrored().mirrored()
        np.testing.assert_allclose(twice.people[place].keypoints, plain, atol=1e-4)
        np.testing.assert_array_equal(twice.people[place].box_xywh, scene.people[place].box_xywh)


class TestCaptions:
    def test_true_captions_name_what_is_seen(self, scenes):
        for scene in scenes:
            words = scene.caption
            assert words.startswith(f"a {scene.kind} with ")
            for noun, label in (("car", "car"), ("ball", "ball"), ("tree", "tree"), ("person", "person")):
                if re.search(rf"\b({noun}|{noun}s|people)\b" if noun == "person" else rf"\b{noun}s?\b", words):
                    assert (scene.labels == CLASSES.index(label)).any(), words

    def test_sentence_counts_and_orders_by_size(self):
        things = (
            Thing(label="car", solids=(), noun="car", detail="red"),
            Thing(label="car", solids=(), noun="car", detail="blue"),
            Thing(label="person", solids=(), noun="person", detail="waving in an orange shirt"),
            Thing(label="tree", solids=(), noun="tree"),
            Thing(label="tree", solids=(), noun="tree"),
            Thing(label="lamp", solids=(), noun="lamp", detail="white"),
            Thing(label="road", solids=()),
        )
        visible = np.full((100, 100), 6)
        visible[:20], visible[20:25], visible[30:34], visible[40:42], visible[50:51] = 1, 0, 2, 3, 4
        visible[99, :10] = 5
        expected = "a street, two cars: a blue one and a red one, a person waving in an orange shirt, two trees"
        assert caption("a street", things, visible) == expected
