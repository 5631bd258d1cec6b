"""A scene: one generated image with its ground truth."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.joints import COCO_JOINTS, mirrored_order
from metaprompts.errors import InputError
from metaprompts.synthetic.camera import Camera
from metaprompts.synthetic.captions import caption
from metaprompts.synthetic.people import Figure
from metaprompts.synthetic.render import Rendering, render
from metaprompts.synthetic.rng import Rng
from metaprompts.synthetic.rooms import build_room
from metaprompts.synthetic.skeleton import JOINT_RADII_M
from metaprompts.synthetic.streets import build_street
from metaprompts.synthetic.world import CLASSES, World

Kind = Literal["room", "street"]
_LARGEST_SIDE = 8192
# People with fewer visible pixels are not annotated.
_SMALLEST_SHARE = 0.005


@dataclass(frozen=True, kw_only=True, eq=False)
class ScenePerson:
    """One person of a scene.

    Attributes:
        keypoints: (17, 3) float32 in the order of COCO: x and y in pixels, and 0 outside the image, 1 hidden,
            2 visible; left and right are the person's own
        box_xywh: (4,) float32: left, top, width, height around the visible pixels
        area: number of visible pixels
        thing: the person's index in ``Scene.things``
    """

    keypoints: NDArray[np.float32]
    box_xywh: NDArray[np.float32]
    area: int
    thing: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """An image with its ground truth.

    Attributes:
        seed: the seed from which the scene was generated
        kind: "room" or "street"
        image: (H, W, 3) uint8 RGB
        depth_m: (H, W) float32 meters along the optical axis; 0 for the sky
        normals: (H, W, 3) float32 unit normals of the surfaces: x right, y up, z toward the camera; 0 in the sky
        labels: (H, W) uint8, indices into `CLASSES`
        things: (H, W) int32, the number of the thing at each pixel; -1 for the sky
        people: the sufficiently visible people
        intrinsics: (3, 3) float64: pixel = intrinsics @ (x right, y down, z forward) / z; pixel centers are
            integers
        caption: the visible objects, in English
    """

    seed: int
    kind: Kind
    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    normals: NDArray[np.float32]
    labels: NDArray[np.uint8]
    things: NDArray[np.int32]
    people: tuple[ScenePerson, ...]
    intrinsics: NDArray[np.float64]
    caption: str

    def mirrored(self) -> "Scene":
        """The mirrored scene, in which left hands become right hands."""
        width = self.image.shape[1]
        intrinsics = self.intrinsics.copy()
        intrinsics[0, 2] = width - 1 - intrinsics[0, 2]
        return Scene(
            seed=self.seed,
            kind=self.kind,
            image=np.ascontiguousarray(self.image[:, ::-1]),
            depth_m=np.ascontiguousarray(self.depth_m[:, ::-1]),
            normals=self.normals[:, ::-1] * np.array([-1, 1, 1], np.float32),
            labels=np.ascontiguousarray(self.labels[:, ::-1]),
            things=np.ascontiguousarray(self.things[:, ::-1]),
            people=tuple(_mirrored(person, width) for person in self.people),
            intrinsics=intrinsics,
            caption=self.caption,
        )


def generate_scene(seed: int, height: int = 128, width: int = 192, kind: Kind | None = None) -> Scene:
    """Build and render a random room or street.

    The same seed gives the same scene on every machine, and the same view at all sizes with the same aspect ratio.

    Args:
        seed: 0 or more
        height: height of the image in pixels
        width: width of the image in pixels
        kind: "room" or "street"; None lets the seed decide

    Raises:
        InputError: the seed is negative, the size is outside 16 to 8192, or the kind is unknown
    """
    if seed < 0:
        raise InputError(f"scene seed is {seed}; expected 0 or more")
    if not (16 <= height <= _LARGEST_SIDE and 16 <= width <= _LARGEST_SIDE):
        raise InputError(f"scene size is {height} x {width}; expected 16 to {_LARGEST_SIDE} per side")
    if kind not in (None, "room", "street"):
        raise InputError(f"scene kind is {kind!r}; expected 'room' or 'street'")
    rng = Rng(seed)
    drawn: Kind = "room" if rng.happens(0.5) else "street"
    kind = kind or drawn
    world, camera, figures, opening = (build_room if kind == "room" else build_street)(rng, height, width)
    return scene_of(seed, kind, world, camera, figures, render(world, camera), opening)


def scene_of(
    seed: int,
    kind: Kind,
    world: World,
    camera: Camera,
    figures: tuple[Figure, ...],
    rendering: Rendering,
    opening: str,
) -> Scene:
    """A rendered world as a scene.

    Args:
        seed: the world's seed
        kind: "room" or "street"
        world: the rendered world
        camera: the camera that sees it
        figures: the people, who are also things in the world
        rendering: the world as the camera sees it
        opening: beginning of the caption
    """
    return Scene(
        seed=seed,
        kind=kind,
        image=rendering.image,
        depth_m=np.where(np.isfinite(rendering.depth_m), rendering.depth_m, 0).astype(np.float32),
        normals=rendering.normals,
        labels=_labels(world, rendering),
        things=rendering.things,
        people=_people(world, figures, camera, rendering),
        intrinsics=camera.matrix,
        caption=caption(opening, world.things, rendering.things),
    )


def _labels(world: World, rendering: Rendering) -> NDArray[np.uint8]:
    names = [thing.label for thing in world.things] + ["sky"]
    table = np.array([CLASSES.index(name) for name in names], dtype=np.uint8)
    return table[rendering.things]


def _people(world: World, figures: tuple[Figure, ...], camera: Camera, rendering: Rendering) -> tuple[ScenePerson, ...]:
    people = []
    for figure in figures:
        number = world.things.index(figure.thing)
        rows, columns = np.nonzero(rendering.things == number)
        if len(rows) < _SMALLEST_SHARE * rendering.things.size:
            continue
        left, top = columns.min(), rows.min()
        box = (left, top, columns.max() + 1 - left, rows.max() + 1 - top)
        people.append(
            ScenePerson(
                keypoints=_keypoints(figure, camera, rendering),
                box_xywh=np.array(box, dtype=np.float32),
                area=len(rows),
                thing=number,
            )
        )
    return tuple(people)


def _keypoints(figure: Figure, camera: Camera, rendering: Rendering) -> NDArray[np.float32]:
    """Project the joints; a joint is hidden if the depth map has something well in front of it."""
    keypoints = np.zeros((len(COCO_JOINTS), 3), dtype=np.float32)
    for place, name in enumerate(COCO_JOINTS):
        x_px, y_px, depth = camera.project(*figure.joints[name])
        column, row = int(np.floor(x_px + 0.5)), int(np.floor(y_px + 0.5))
        if depth <= 0 or not (0 <= column < camera.width and 0 <= row < camera.height):
            continue
        radius = JOINT_RADII_M[name.rpartition("_")[2]]
        is_seen = rendering.depth_m[row, column] > depth - radius
        keypoints[place] = (x_px, y_px, 2 if is_seen else 1)
    return keypoints


def _mirrored(person: ScenePerson, width: int) -> ScenePerson:
    keypoints = person.keypoints[mirrored_order(COCO_JOINTS)].copy()
    labeled = keypoints[:, 2] > 0
    keypoints[labeled, 0] = width - 1 - keypoints[labeled, 0]
    left, top, wide, high = person.box_xywh
    box = np.array([width - left - wide, top, wide, high], dtype=np.float32)
    return ScenePerson(keypoints=keypoints, box_xywh=box, area=person.area, thing=person.thing)
