"""The 17 COCO joints of a body in a given posture."""

from metaprompts.synthetic.poses import Posture
from metaprompts.synthetic.solids import upright
from metaprompts.synthetic.vectors import Vector, cosine_and_sine

JOINT_RADII_M = {
    "nose": 0.04,
    "eye": 0.04,
    "ear": 0.05,
    "shoulder": 0.11,
    "elbow": 0.08,
    "wrist": 0.07,
    "hip": 0.17,
    "knee": 0.11,
    "ankle": 0.09,
}
"""Maximum depth below the skin at which a joint counts as visible."""


class Skeleton:
    """Joints of a posture; body proportions are from drawing textbooks."""

    def __init__(self, spot: Vector, facing_deg: float, tall_m: float, posture: Posture, seat_m: float | None) -> None:
        self.tall = tall_m
        self.right, self.up, self.front = upright(facing_deg)
        self.head_right, _, self.head_front = upright(facing_deg + posture.head_turn_deg)
        self.yaw_body = facing_deg
        self.yaw_head = facing_deg + posture.head_turn_deg
        hips = Vector(0.0, 0.0, 0.0)
        joints: dict[str, Vector] = {}
        for side, sign, leg in (("left", -1.0, posture.left_leg), ("right", 1.0, posture.right_leg)):
            hip = hips.plus(self.right.times(sign * 0.055 * tall_m))
            knee = hip.plus(self._down(leg.swing).times(0.24 * tall_m))
            ankle = knee.plus(self._down(leg.swing - leg.bend).times(0.225 * tall_m))
            joints |= {f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": ankle}
        for side, sign, arm in (("left", -1.0, posture.left_arm), ("right", 1.0, posture.right_arm)):
            shoulder = hips.plus(self.right.times(sign * 0.112 * tall_m)).plus(self.up.times(0.3 * tall_m))
            elbow = shoulder.plus(self._hanging(sign, arm.upper_side, arm.upper_front).times(0.165 * tall_m))
            wrist = elbow.plus(self._hanging(sign, arm.fore_side, arm.fore_front).times(0.15 * tall_m))
            joints |= {f"{side}_shoulder": shoulder, f"{side}_elbow": elbow, f"{side}_wrist": wrist}
        self.head = hips.plus(self.up.times(0.425 * tall_m)).plus(self.front.times(0.012 * tall_m))
        joints |= self._face()
        lowest = min(joints["left_ankle"].y, joints["right_ankle"].y)
        rise = 0.045 * tall_m - lowest if seat_m is None else seat_m + 0.06 * tall_m
        lift = spot.plus(Vector(0.0, rise, 0.0))
        self.hips, self.head = hips.plus(lift), self.head.plus(lift)
        self.joints = {name: joint.plus(lift) for name, joint in joints.items()}

    def _down(self, swing_deg: float) -> Vector:
        cosine, sine = cosine_and_sine(swing_deg)
        return self.up.times(-cosine).plus(self.front.times(sine))

    def _hanging(self, sign: float, side_deg: float, front_deg: float) -> Vector:
        side_cosine, side_sine = cosine_and_sine(side_deg)
        front_cosine, front_sine = cosine_and_sine(front_deg)
        outward = self.right.times(sign * side_sine)
        return (
            outward.plus(self.up.times(-side_cosine * front_cosine))
            .plus(self.front.times(abs(side_cosine) * front_sine))
            .unit()
        )

    def _face(self) -> dict[str, Vector]:
        across, tall = self.head_right, self.tall
        nose = self.head.plus(self.head_front.times(0.073 * tall)).plus(self.up.times(-0.008 * tall))
        eyes = self.head.plus(self.head_front.times(0.06 * tall)).plus(self.up.times(0.014 * tall))
        return {
            "nose": nose,
            "left_eye": eyes.plus(across.times(-0.024 * tall)),
            "right_eye": eyes.plus(across.times(0.024 * tall)),
            "left_ear": self.head.plus(across.times(-0.056 * tall)),
            "right_ear": self.head.plus(across.times(0.056 * tall)),
        }
