"""A camera drive through a scene with walking people, as frames with exact optical flow and depth."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.synthetic.camera import Camera
from metaprompts.synthetic.motion import exact_flow
from metaprompts.synthetic.people import Clothes, Figure, build_person, random_clothes
from metaprompts.synthetic.poses import Arm, Leg, Posture
from metaprompts.synthetic.render import render
from metaprompts.synthetic.rng import Rng
from metaprompts.synthetic.rooms import build_room
from metaprompts.synthetic.scene import Kind, Scene, scene_of
from metaprompts.synthetic.streets import build_street
from metaprompts.synthetic.vectors import FORWARD, RIGHT, Vector, cosine_and_sine, turned

FPS = 25
"""The frame rate of a drive."""

_WALKERS = 2
_STRIDE_DEG = 24.0
_STEPS_HZ = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class DriveFrame:
    """A frame of a drive.

    Attributes:
        scene: the image with its ground truth
        flow: (H, W, 2) float32: x and y to add to a pixel's position to find the same point in the previous frame,
            pixels; 0 in the first frame
        seen_before: (H, W) bool: whether the point was visible in the previous frame; False in the first frame
    """

    scene: Scene
    flow: NDArray[np.float32]
    seen_before: NDArray[np.bool_]


def generate_drive(
    seed: int, frames: int, height: int = 128, width: int = 192, kind: Kind | None = None
) -> Iterator[DriveFrame]:
    """Drive through a random room or street, past two people who walk across the view.

    Args:
        seed: 0 or more; gives the same scene as in `generate_scene`
        frames: number of frames, 25 per second
        height: height of the images in pixels
        width: width of the images in pixels
        kind: "room" or "street"; None lets the seed decide

    Raises:
        InputError: the seed is negative, or there are no frames
    """
    if seed < 0 or frames < 1:
        raise InputError(
            f"a drive has seed {seed} and {frames} frames; expected a seed of at least 0 and at least 1 frame"
        )
    rng = Rng(seed)
    drawn: Kind = "room" if rng.happens(0.5) else "street"
    kind = kind or drawn
    world, camera, figures, opening = (build_room if kind == "room" else build_street)(rng, height, width)
    path, walkers = _Path.of(rng, camera, kind), [_Walker.of(rng, camera, kind) for _ in range(_WALKERS)]
    before = None
    for number in range(frames):
        seconds = number / FPS
        moving = tuple(walker.at(seconds) for walker in walkers)
        # Walkers come last, so that the numbers of all other solids stay the same.
        now = replace(world, things=(*world.things, *(figure.thing for figure in moving)))
        seen_from = path.at(seconds)
        view = (now, seen_from, render(now, seen_from))
        flow, seen = exact_flow(view, before or view)
        scene = scene_of(seed, kind, now, seen_from, (*figures, *moving), view[2], opening)
        yield DriveFrame(scene=scene, flow=flow, seen_before=seen if before else np.zeros_like(seen))
        before = view


@dataclass(frozen=True)
class _Path:
    """The path of a camera that moves straight ahead at constant speed while its view sways."""

    camera: Camera
    speed: float
    sway_deg: float
    sway_hz: float

    @classmethod
    def of(cls, rng: Rng, camera: Camera, kind: Kind) -> "_Path":
        speed = rng.uniform(0.2, 0.5) if kind == "room" else rng.uniform(1.0, 3.0)
        return cls(camera, speed, rng.uniform(2, 6), rng.uniform(0.1, 0.3))

    def at(self, seconds: float) -> Camera:
        ahead = turned(FORWARD, self.camera.yaw_deg).times(self.speed * seconds)
        sway_deg = self.sway_deg * _wave(self.sway_hz * seconds)
        return replace(self.camera, position=self.camera.position.plus(ahead), yaw_deg=self.camera.yaw_deg + sway_deg)


@dataclass(frozen=True)
class _Walker:
    """A person who walks straight on, with swinging arms and legs."""

    start: Vector
    facing_deg: float
    speed: float
    tall_m: float
    clothes: Clothes
    phase: float

    @classmethod
    def of(cls, rng: Rng, camera: Camera, kind: Kind) -> "_Walker":
        """A person in front of the camera who crosses its view from one side to the other."""
        away_m = rng.uniform(2.4, 3.6) if kind == "room" else rng.uniform(4.5, 9.0)
        side = rng.choice((-1.0, 1.0))
        ahead = turned(FORWARD, camera.yaw_deg).times(away_m)
        across = turned(RIGHT, camera.yaw_deg).times(side * 0.35 * away_m)
        spot = camera.position.plus(ahead).plus(across)
        # Facing 0 means away from the camera; 90 means to its right.
        facing_deg = camera.yaw_deg - 90 * side + rng.uniform(-25, 25)
        return cls(
            Vector(spot.x, 0.0, spot.z),
            facing_deg,
            rng.uniform(0.5, 1.1),
            rng.uniform(1.52, 1.92),
            random_clothes(rng),
            rng.uniform(0, 1),
        )

    def at(self, seconds: float) -> Figure:
        spot = self.start.plus(turned(FORWARD, self.facing_deg).times(self.speed * seconds))
        swing = _STRIDE_DEG * _wave(_STEPS_HZ * seconds + self.phase)
        posture = Posture(
            doing="walking",
            left_arm=Arm(7, -swing, 4, -swing + 22),
            right_arm=Arm(7, swing, 4, swing + 22),
            left_leg=Leg(swing, 8 + max(swing, 0) * 0.3),
            right_leg=Leg(-swing, 8 + max(-swing, 0) * 0.3),
        )
        detail = f"walking in a {self.clothes.shirt_name} shirt"
        return build_person(spot, self.facing_deg, self.tall_m, posture, self.clothes, detail=detail)


def _wave(turns: float) -> float:
    """The sine of a number of turns, the same on every machine."""
    return cosine_and_sine(360 * (turns - math.floor(turns)))[1]
