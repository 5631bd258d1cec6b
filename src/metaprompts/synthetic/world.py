"""A world: things made of solids, a light, a sky."""

from dataclasses import dataclass

from metaprompts.synthetic.solids import Color, Solid
from metaprompts.synthetic.vectors import Vector

CLASSES = (
    "wall",
    "floor",
    "ceiling",
    "table",
    "sofa",
    "cabinet",
    "lamp",
    "ball",
    "person",
    "road",
    "pavement",
    "building",
    "tree",
    "sky",
    "car",
    "pole",
    "sign",
)
"""The classes of a scene's pixels; ``labels`` holds indices into this list."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A named object.

    Attributes:
        label: one of `CLASSES`
        solids: the solids that make up the object
        noun: name of the thing in captions, for example "car"; empty if captions skip it
        detail: distinguishing detail of the thing, for example "red" or "in a green shirt"
    """

    label: str
    solids: tuple[Solid, ...]
    noun: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Light:
    """The only light that casts shadows; a sun is a lamp that is far away.

    Attributes:
        position: position of the light in meters
        strength: strength of the light on a surface that faces it, at ``reach_m``
        reach_m: distance at which a lamp's light has fallen to half; None for a sun
        casts_shadows: false for a gray sky
        ambient: light from everywhere
        color: color of the light
    """

    position: Vector
    strength: float
    ambient: Color
    color: Color = (1.0, 1.0, 1.0)
    reach_m: float | None = None
    casts_shadows: bool = True


@dataclass(frozen=True, kw_only=True)
class Sky:
    """The background of rays that hit nothing.

    Attributes:
        zenith: color straight up
        horizon: color at the horizon, and of the haze
        clouds: fraction of the sky that clouds cover, from 0 to 1
        haze_m: distance at which haze hides half of the color; None if there is no haze
    """

    zenith: Color
    horizon: Color
    clouds: float = 0.0
    haze_m: float | None = None


@dataclass(frozen=True, kw_only=True)
class World:
    """All visible content.

    Attributes:
        things: things, in any order
        light: the lamp or sun
        sky: the background
    """

    things: tuple[Thing, ...]
    light: Light
    sky: Sky
