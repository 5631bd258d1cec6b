"""Named colors, and materials in these colors."""

from metaprompts.synthetic.rng import Rng
from metaprompts.synthetic.solids import Color

NAMED: dict[str, Color] = {
    "red": (0.78, 0.13, 0.12),
    "blue": (0.14, 0.27, 0.72),
    "green": (0.16, 0.55, 0.22),
    "yellow": (0.92, 0.78, 0.16),
    "white": (0.92, 0.92, 0.9),
    "black": (0.09, 0.09, 0.1),
    "gray": (0.5, 0.51, 0.53),
    "orange": (0.92, 0.48, 0.12),
    "purple": (0.45, 0.2, 0.6),
    "brown": (0.42, 0.26, 0.15),
    "pink": (0.92, 0.55, 0.66),
}

SKIN: tuple[Color, ...] = ((0.93, 0.76, 0.64), (0.82, 0.62, 0.48), (0.6, 0.42, 0.3), (0.38, 0.25, 0.18))
HAIR: tuple[Color, ...] = ((0.12, 0.09, 0.07), (0.3, 0.19, 0.1), (0.62, 0.45, 0.22), (0.5, 0.2, 0.1), (0.6, 0.6, 0.6))


def named_color(rng: Rng, names: tuple[str, ...] = tuple(NAMED)) -> tuple[str, Color]:
    """A color's name and one of its shades."""
    name = rng.choice(names)
    return name, shade(rng, NAMED[name])


def shade(rng: Rng, color: Color, spread: float = 0.06) -> Color:
    """A random shade of the color."""
    brightness = rng.uniform(1 - 2 * spread, 1 + spread)
    red, green, blue = (
        min(max(part * brightness + rng.uniform(-spread / 2, spread / 2), 0.02), 0.98) for part in color
    )
    return red, green, blue


def mixed(one: Color, other: Color, share: float) -> Color:
    """A mix of two colors."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue
