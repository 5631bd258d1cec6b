"""Crop a person from an image, with mmpose's top-down augmentation."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.joints import body_half, mirror_pairs, mirrored_order
from metaprompts.data.sample import Crop, Person, Sample
from metaprompts.data.transforms.affine import box_center_scale, fit_aspect, to_crop, udp_matrix
from metaprompts.data.transforms.transform import check_probability

_FEWEST_HALF_JOINTS = 3
_HALF_PADDING = 1.5
_UPPER_BODY_PROBABILITY = 0.7


@dataclass(frozen=True)
class PoseCrop:
    """Cut out the person's box, enlarged to the crop's aspect and by ``padding``, without bias (UDP).

    With ``augment``: mirror (and swap left and right joints), keep only the upper (7 of 10) or lower body, scale the
    box, rotate. Scale and angle are normally distributed and clipped, as in mmpose 0.x. The scale is centered in its
    range, with half the range as standard deviation; the angle has the standard deviation ``rotation_deg`` and is
    clipped at twice that.

    Args:
        height: height of the crop, at least 2
        width: width of the crop, at least 2
        joint_names: the J joints in order
        augment: whether to augment randomly; otherwise the crop is upright and deterministic
        padding: scale factor of the box's sides
        flip_probability: probability of mirroring
        half_body_probability: probability of keeping half a body, for people with more than ``half_body_joints`` joints
        half_body_joints: see ``half_body_probability``
        scale: lowest and highest scale factor of the box
        rotation_deg: standard deviation of the angle
        rotation_probability: probability of rotation
        flip_pairs: joints that are swapped when mirroring, see `mirror_pairs`
        lower_body: joints from the hips down, see `body_half`

    Raises:
        InputError: ``augment`` mirrors or takes half-body crops, but neither arguments nor names give the required
            joints
    """

    height: int
    width: int
    joint_names: tuple[str, ...]
    augment: bool = False
    padding: float = 1.25
    flip_probability: float = 0.5
    half_body_probability: float = 0.3
    half_body_joints: int = 8
    scale: tuple[float, float] = (0.5, 1.5)
    rotation_deg: float = 40.0
    rotation_probability: float = 0.6
    flip_pairs: tuple[tuple[int, int], ...] | None = None
    lower_body: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 2:
            raise ValueError(f"crop is {self.height}x{self.width}; expected at least 2x2")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale}; expected 0 < lowest <= highest")
        for probability in (self.flip_probability, self.half_body_probability, self.rotation_probability):
            check_probability(probability)
        if self.augment and self.flip_probability > 0:
            mirror_pairs(self.joint_names, self.flip_pairs)
        if self.augment and self.half_body_probability > 0 and len(self.joint_names) > self.half_body_joints:
            body_half(self.joint_names, self.lower_body)

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Cut out the person.

        Returns:
            a sample whose image is (height, width, 3), whose keypoints are in its pixels (those outside get visibility
            0), and whose ``person.crop`` maps back if not augmented
        """
        person = sample.person
        if person is None:
            raise ValueError(f"PoseCrop needs a person, but {sample.path} has none")
        if len(person.keypoints) != len(self.joint_names):
            raise ValueError(f"{sample.path} has {len(person.keypoints)} joints; expected {len(self.joint_names)}")
        center, size = box_center_scale(person.box_xywh, self.width / self.height, padding=self.padding)
        rotation_deg, is_flipped = 0.0, False
        if self.augment:
            is_flipped = generator.random() < self.flip_probability
            center, size = self._halve(person, center, size, generator)
            low, high = self.scale
            size = size * np.float32(np.clip(generator.normal((low + high) / 2, (high - low) / 2), low, high))
            if generator.random() < self.rotation_probability:
                limit_deg = 2 * self.rotation_deg
                rotation_deg = float(np.clip(generator.normal(0, self.rotation_deg), -limit_deg, limit_deg))
        matrix = udp_matrix(center, size, rotation_deg, (self.width, self.height))
        if is_flipped:
            matrix = mirror(matrix, self.width)
        image = cv2.warpAffine(sample.image, matrix, (self.width, self.height), flags=cv2.INTER_LINEAR)
        keypoints = self._move(person.keypoints, matrix, is_flipped=is_flipped)
        cropped = replace(person, keypoints=keypoints, crop=Crop(center=center, size=size))
        return replace(sample, image=image, person=cropped)

    def _halve(
        self,
        person: Person,
        center: NDArray[np.float32],
        size: NDArray[np.float32],
        generator: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        is_labeled = person.keypoints[:, 2] > 0
        if is_labeled.sum() <= self.half_body_joints or generator.random() >= self.half_body_probability:
            return center, size
        prefers_upper = generator.random() < _UPPER_BODY_PROBABILITY
        is_lower = np.isin(np.arange(len(self.joint_names)), body_half(self.joint_names, self.lower_body))
        upper, lower = (person.keypoints[is_labeled & part, :2] for part in (~is_lower, is_lower))
        preferred = upper if prefers_upper else lower
        half = preferred if len(preferred) >= _FEWEST_HALF_JOINTS else max(upper, lower, key=len)
        extent = half.max(axis=0) - half.min(axis=0)
        if not extent.any():
            return center, size
        return half.mean(axis=0), fit_aspect(extent, self.width / self.height) * np.float32(_HALF_PADDING)

    def _move(
        self, keypoints: NDArray[np.float32], matrix: NDArray[np.float64], *, is_flipped: bool
    ) -> NDArray[np.float32]:
        points = to_crop(keypoints[:, :2], matrix)
        is_inside = ((points >= 0) & (points <= (self.width - 1, self.height - 1))).all(axis=1)
        visibility = np.where(is_inside, keypoints[:, 2], 0)
        moved = np.concatenate([points, visibility[:, None]], axis=1).astype(np.float32)
        # Unlabeled joints stay at 0, 0 instead of moving with that corner.
        moved[keypoints[:, 2] == 0] = 0
        return moved[mirrored_order(self.joint_names, self.flip_pairs)] if is_flipped else moved


def mirror(matrix: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Compose a (2, 3) matrix with mirroring of a crop of this width."""
    mirrored = matrix.copy()
    mirrored[0] = -matrix[0]
    mirrored[0, 2] += width - 1
    return mirrored
