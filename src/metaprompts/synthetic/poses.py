"""Body poses: the directions of arms and legs."""

from dataclasses import dataclass

from metaprompts.synthetic.rng import Rng


@dataclass(frozen=True)
class Arm:
    """An arm's direction: degrees sideways, away from the body, and degrees forward."""

    upper_side: float
    upper_front: float
    fore_side: float
    fore_front: float


@dataclass(frozen=True)
class Leg:
    """A leg's pose: forward swing of the thigh, and backward bend of the knee, in degrees."""

    swing: float
    bend: float


@dataclass(frozen=True, kw_only=True)
class Posture:
    """A body pose. Left and right are the person's own.

    Attributes:
        doing: description for captions; empty for standing
        left_arm: direction of the left arm
        right_arm: direction of the right arm
        left_leg: pose of the left leg
        right_leg: pose of the right leg
        head_turn_deg: turn of the head in degrees, to the person's right
    """

    doing: str
    left_arm: Arm
    right_arm: Arm
    left_leg: Leg
    right_leg: Leg
    head_turn_deg: float = 0.0


def random_posture(rng: Rng, *, seated: bool = False) -> Posture:
    """Standing, walking, waving, reaching out or sitting."""
    doing = "sitting" if seated else rng.choice(("", "", "walking", "walking", "waving", "reaching"))
    hanging = [Arm(rng.uniform(4, 18), rng.uniform(-12, 15), rng.uniform(0, 12), rng.uniform(0, 45)) for _ in range(2)]
    legs = [Leg(rng.uniform(-4, 8), rng.uniform(0, 8)) for _ in range(2)]
    if doing == "walking":
        stride = rng.uniform(14, 30) * (1 if rng.happens(0.5) else -1)
        legs = [Leg(stride, max(stride, 0) * 0.3), Leg(-stride, max(-stride, 0) * 0.3 + 12)]
        hanging = [Arm(7, -stride, 4, -stride + 22), Arm(7, stride, 4, stride + 22)]
    elif doing == "waving":
        raised = Arm(rng.uniform(95, 150), rng.uniform(-10, 20), rng.uniform(150, 195), rng.uniform(-10, 20))
        hanging[rng.whole(0, 1)] = raised
    elif doing == "reaching":
        both = Arm(rng.uniform(10, 95), rng.uniform(0, 85), rng.uniform(10, 95), rng.uniform(20, 90))
        hanging = [both, both]
    elif doing == "sitting":
        legs = [Leg(rng.uniform(80, 90), rng.uniform(75, 92)) for _ in range(2)]
        hanging = [Arm(8, rng.uniform(10, 30), 2, rng.uniform(60, 85)) for _ in range(2)]
    return Posture(
        doing=doing,
        left_arm=hanging[0],
        right_arm=hanging[1],
        left_leg=legs[0],
        right_leg=legs[1],
        head_turn_deg=rng.uniform(-35, 35),
    )
