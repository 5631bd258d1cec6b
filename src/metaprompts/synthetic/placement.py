"""Find free space on the ground."""

from dataclasses import dataclass, field

from metaprompts.synthetic.solids import Solid
from metaprompts.synthetic.world import Thing


@dataclass
class Footprints:
    """The occupied circles on the ground."""

    _taken: list[tuple[float, float, float]] = field(default_factory=list)

    def take(self, x: float, z: float, radius: float) -> bool:
        """Occupy a circle unless it overlaps an occupied one; return whether it did."""
        for other_x, other_z, other_radius in self._taken:
            gap = radius + other_radius
            if (x - other_x) * (x - other_x) + (z - other_z) * (z - other_z) < gap * gap:
                return False
        self._taken.append((x, z, radius))
        return True


def footprint_radius(thing: Thing) -> float:
    """The radius of the circle around the origin that contains an object built there."""
    return max(_reach(solid) for solid in thing.solids)


def _reach(solid: Solid) -> float:
    return max(abs(solid.center.x) + solid.sizes[0], abs(solid.center.z) + solid.sizes[2])
