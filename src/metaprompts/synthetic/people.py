"""Clothed people built from capsules."""

from dataclasses import dataclass

from metaprompts.data.joints import COCO_JOINTS
from metaprompts.synthetic.colors import HAIR, NAMED, SKIN, named_color, shade
from metaprompts.synthetic.poses import Posture, random_posture
from metaprompts.synthetic.rng import Rng
from metaprompts.synthetic.skeleton import Skeleton
from metaprompts.synthetic.solids import Material, Solid, ball, ellipsoid, limb, rod, without_shadow
from metaprompts.synthetic.vectors import Vector
from metaprompts.synthetic.world import Thing


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A person in a world.

    Attributes:
        thing: the visible object
        joints: positions of the `COCO_JOINTS` in meters
    """

    thing: Thing
    joints: dict[str, Vector]


@dataclass(frozen=True, kw_only=True)
class Clothes:
    """Materials of a person.

    Attributes:
        shirt_name: name of the shirt's color
        shirt: color of the trunk and the upper arms
        trousers: color of the legs, or of the skirt
        skin: color of face, hands and other bare skin
        hair: color of the head
        shoes: color of the feet
        long_sleeves: whether the shirt reaches the wrists
        skirt: whether a skirt replaces the trousers
        long_hair: whether the hair reaches the neck
    """

    shirt_name: str
    shirt: Material
    trousers: Material
    skin: Material
    hair: Material
    shoes: Material
    long_sleeves: bool = True
    skirt: bool = False
    long_hair: bool = False


def random_clothes(rng: Rng, *, seated: bool = False) -> Clothes:
    """Clothes of random colors; seated people wear no skirt."""
    shirt_name, shirt = named_color(rng)
    trousers = shade(rng, rng.choice([NAMED[name] for name in ("blue", "black", "gray", "brown", "green", "white")]))
    return Clothes(
        shirt_name=shirt_name,
        shirt=Material(
            color=shirt,
            second=shade(rng, NAMED["white"]),
            pattern="bands" if rng.happens(0.15) else "plain",
            size=0.07,
        ),
        trousers=Material(color=trousers),
        skin=Material(color=shade(rng, rng.choice(SKIN), 0.04)),
        hair=Material(color=shade(rng, rng.choice(HAIR), 0.03)),
        shoes=Material(color=shade(rng, rng.choice((NAMED["black"], NAMED["brown"], NAMED["white"])))),
        long_sleeves=rng.happens(0.5),
        skirt=not seated and rng.happens(0.2),
        long_hair=rng.happens(0.35),
    )


def random_person(
    rng: Rng, spot: Vector, facing_deg: float, *, seated: bool = False, seat_m: float | None = None
) -> Figure:
    """A person of random size, clothes and posture.

    Args:
        rng: random number generator
        spot: position on the ground below the hips
        facing_deg: 0 faces away from an unrotated camera, 180 toward it
        seated: whether the person sits, instead of standing, walking, ...
        seat_m: height of the seat; None to derive it from the legs
    """
    tall_m = rng.uniform(1.52, 1.92) if seated or rng.happens(0.85) else rng.uniform(1.0, 1.4)
    clothes = random_clothes(rng, seated=seated)
    posture = random_posture(rng, seated=seated)
    detail = f"{posture.doing} in a {clothes.shirt_name} shirt".strip()
    return build_person(spot, facing_deg, tall_m, posture, clothes, detail=detail, seat_m=seat_m)


def build_person(
    spot: Vector,
    facing_deg: float,
    tall_m: float,
    posture: Posture,
    clothes: Clothes,
    *,
    detail: str = "",
    seat_m: float | None = None,
) -> Figure:
    """Build a person from capsules around the joints of a posture."""
    body = Skeleton(spot, facing_deg, tall_m, posture, seat_m)
    solids = [*_trunk(body, clothes), *_head(body, clothes)]
    for side in ("left", "right"):
        solids += _arm(body, side, clothes) + _leg(body, side, clothes)
    thing = Thing(label="person", solids=tuple(solids), noun="person", detail=detail)
    return Figure(thing=thing, joints={name: body.joints[name] for name in COCO_JOINTS})


def _trunk(body: Skeleton, clothes: Clothes) -> list[Solid]:
    tall, up = body.tall, body.up
    chest, waist = body.hips.plus(up.times(0.235 * tall)), body.hips.plus(up.times(0.07 * tall))
    shoulders = (body.joints["left_shoulder"], body.joints["right_shoulder"])
    solids = [
        limb(shoulders[0], shoulders[1], 0.045 * tall, clothes.shirt),
        _flat(waist, chest, 0.1 * tall, 0.068 * tall, body, clothes.shirt),
        *without_shadow([rod(chest.plus(up.times(0.06 * tall)), body.head, 0.03 * tall, clothes.skin)]),
    ]
    if clothes.skirt:
        solids.append(
            rod(body.hips.plus(up.times(-0.2 * tall)), waist, 0.14 * tall, clothes.trousers, end_radius=0.085 * tall)
        )
    else:
        solids.append(
            ellipsoid(
                body.hips.plus(up.times(0.01 * tall)),
                (0.1 * tall, 0.085 * tall, 0.072 * tall),
                clothes.trousers,
                yaw_deg=body.yaw_body,
            )
        )
    return solids


def _flat(low: Vector, high: Vector, wide: float, deep: float, body: Skeleton, material: Material) -> Solid:
    """A capsule that is wider than it is deep, like a chest."""
    length = high.minus(low).length()
    return Solid(
        shape="capsule",
        center=low.plus(high).times(0.5),
        sizes=(wide, deep, deep),
        directions=(body.right, body.up, body.front),
        material=material,
        half_length=length / 2 / deep,
    )


def _head(body: Skeleton, clothes: Clothes) -> list[Solid]:
    tall, up, front = body.tall, body.up, body.head_front
    dark = Material(color=(0.1, 0.08, 0.08))
    hair = body.head.plus(up.times(0.018 * tall)).plus(front.times(-0.016 * tall))
    features = [ball(body.joints["nose"].plus(front.times(-0.008 * tall)), 0.012 * tall, clothes.skin)]
    for side in ("left", "right"):
        features.append(ball(body.joints[f"{side}_eye"].plus(front.times(-0.004 * tall)), 0.009 * tall, dark))
    solids = [
        ellipsoid(body.head, (0.055 * tall, 0.075 * tall, 0.066 * tall), clothes.skin, yaw_deg=body.yaw_head),
        ellipsoid(hair, (0.061 * tall, 0.071 * tall, 0.066 * tall), clothes.hair, yaw_deg=body.yaw_head),
        *without_shadow(features),
    ]
    if clothes.long_hair:
        fall = body.head.plus(front.times(-0.035 * tall)).plus(up.times(-0.05 * tall))
        solids.append(ellipsoid(fall, (0.062 * tall, 0.09 * tall, 0.038 * tall), clothes.hair, yaw_deg=body.yaw_head))
    return solids


def _arm(body: Skeleton, side: str, clothes: Clothes) -> list[Solid]:
    tall = body.tall
    shoulder, elbow, wrist = (body.joints[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    beyond = wrist.plus(wrist.minus(elbow).unit().times(0.04 * tall))
    return [
        limb(shoulder, elbow, 0.033 * tall, clothes.shirt),
        limb(elbow, wrist, 0.026 * tall, clothes.shirt if clothes.long_sleeves else clothes.skin),
        *without_shadow([ball(beyond, 0.03 * tall, clothes.skin)]),
    ]


def _leg(body: Skeleton, side: str, clothes: Clothes) -> list[Solid]:
    tall = body.tall
    hip, knee, ankle = (body.joints[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
    cloth = clothes.skin if clothes.skirt else clothes.trousers
    heel = ankle.plus(body.up.times(-0.022 * tall)).plus(body.front.times(-0.015 * tall))
    return [
        limb(hip, knee, 0.05 * tall, cloth),
        limb(knee, ankle, 0.038 * tall, cloth),
        *without_shadow([limb(heel, heel.plus(body.front.times(0.09 * tall)), 0.027 * tall, clothes.shoes)]),
    ]
