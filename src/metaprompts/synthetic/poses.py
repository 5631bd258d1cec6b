"""What bodies do: where arms and legs point."""

from dataclasses import dataclass

from metaprompts.synthetic.rng import Chance


@dataclass(frozen=True)
class Arm:
    """Where an arm points: degrees away from the body to its side, and forward."""

    upper_side: float
    upper_front: float
    fore_side: float
    fore_front: float


@dataclass(frozen=True)
class Leg:
    """How far the thigh swings forward, and the knee bends back, in degrees."""

    swing: float
    bend: float


@dataclass(frozen=True, kw_only=True)
class Posture:
    """What a body does. Left and right are the person's own.

    Attributes:
        doing: for captions; empty for standing
        left_arm: where it points
        right_arm: the same
        left_leg: how it is bent
        right_leg: the same
        head_turn_deg: to the person's right
    """

    doing: str
    left_arm: Arm
    right_arm: Arm
    left_leg: Leg
    right_leg: Leg
    head_turn_deg: float = 0.0


def random_posture(chance: Chance, *, seated: bool = False) -> Posture:
    """Standing, walking, waving, reaching out or sitting."""
    doing = "sitting" if seated else chance.choice(("", "", "walking", "walking", "waving", "reaching"))
    hanging = [
        Arm(chance.uniform(4, 18), chance.uniform(-12, 15), chance.uniform(0, 12), chance.uniform(0, 45))
        for _ in range(2)
    ]
    legs = [Leg(chance.uniform(-4, 8), chance.uniform(0, 8)) for _ in range(2)]
    if doing == "walking":
        stride = chance.uniform(14, 30) * (1 if chance.happens(0.5) else -1)
        legs = [Leg(stride, max(stride, 0) * 0.3), Leg(-stride, max(-stride, 0) * 0.3 + 12)]
        hanging = [Arm(7, -stride, 4, -stride + 22), Arm(7, stride, 4, stride + 22)]
    elif doing == "waving":
        raised = Arm(
            chance.uniform(95, 150), chance.uniform(-10, 20), chance.uniform(150, 195), chance.uniform(-10, 20)
        )
        hanging[chance.whole(0, 1)] = raised
    elif doing == "reaching":
        both = Arm(chance.uniform(10, 95), chance.uniform(0, 85), chance.uniform(10, 95), chance.uniform(20, 90))
        hanging = [both, both]
    elif doing == "sitting":
        legs = [Leg(chance.uniform(80, 90), chance.uniform(75, 92)) for _ in range(2)]
        hanging = [Arm(8, chance.uniform(10, 30), 2, chance.uniform(60, 85)) for _ in range(2)]
    return Posture(
        doing=doing,
        left_arm=hanging[0],
        right_arm=hanging[1],
        left_leg=legs[0],
        right_leg=legs[1],
        head_turn_deg=chance.uniform(-35, 35),
    )
