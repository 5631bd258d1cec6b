"""Human pose, top-down: joint heatmaps, weighted mean squared error, OKS AP."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from metaprompts.data.joint_names import read_names
from metaprompts.data.joints import COCO_JOINTS, coco_sigmas
from metaprompts.data.transforms.affine import box_center_scale, from_crop, udp_matrix
from metaprompts.data.transforms.tensors import image_tensor
from metaprompts.errors import InputError
from metaprompts.metrics.oks_nms import COCO_SIGMAS, KEYPOINT_SCORES
from metaprompts.modules.heads.deconv import HeatmapHead
from metaprompts.tasks.base import Batch, FusedTask, ImageArray, ModelInput, check_names_are_lines
from metaprompts.tasks.predictions import PersonPose, PosePrediction, Prediction
from metaprompts.tasks.udp_heatmaps import decode_heatmaps, encode_heatmaps
from metaprompts.utils.schema import Range, check_ranges

if TYPE_CHECKING:
    from metaprompts.metrics.pose import PoseScores

_HEATMAP_STRIDE = 4
_Joint = Annotated[int, Range(0, 9999)]
COCO_SKELETON = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
# COCO's sigma of the joint nearest in kind, for joints that COCO does not have.
_OTHER_SIGMAS = {("neck",): 0.079, ("head", "top"): 0.035}
OTHER_SIGMA = 0.079
"""The sigma of unknown joints: COCO's for shoulders."""


@dataclass(frozen=True, kw_only=True)
class Pose(FusedTask):
    """Settings of human pose.

    Attributes:
        joints: their names. Joints named left and right are swapped in mirrored images: left_eye, L_Eye, eye.l, LEye,
            rightEye, ...
        skeleton: pairs of joint indices to draw
        flip_pairs: index pairs, from 0, of joints that are swapped in mirrored images, for example [[1,2],[3,4]]; []
            for none; none to derive them from the names
        lower_body: indices of the joints from the hips down, for half-body crops; none to derive them from the names
            (hip, knee, foot, ...)
        sigmas: OKS sigma of each joint; none for COCO's own, and 0.079 for joints that COCO does not have
        crop_height: crop height of the person's crop, in pixels, a multiple of 8
        crop_width: crop width of the person's crop, in pixels, a multiple of 8
        heatmap_sigma: standard deviation of a joint's Gaussian, in heatmap pixels (a quarter of the crop's)
        padding: factor of the crop's size over the person's box
        filters: channels of the head's transposed convolution
    """

    name: ClassVar[str] = "pose"
    metrics: ClassVar[tuple[str, ...]] = (*KEYPOINT_SCORES, "pck@0.2")

    joints: tuple[str, ...] = COCO_JOINTS
    skeleton: tuple[tuple[_Joint, _Joint], ...] = COCO_SKELETON
    crop_height: Annotated[int, Range(8, 16384)] = 576
    crop_width: Annotated[int, Range(8, 16384)] = 448
    heatmap_sigma: Annotated[float, Range(0, 1000, above=True)] = 4.5
    flip_pairs: tuple[tuple[_Joint, _Joint], ...] | None = None
    lower_body: tuple[_Joint, ...] | None = None
    sigmas: tuple[Annotated[float, Range(0, 1, above=True)], ...] | None = None
    padding: Annotated[float, Range(0, 100, above=True)] = 1.25
    filters: Annotated[int, Range(1, 16384)] = 256

    def __post_init__(self) -> None:
        check_ranges(self, "task")
        _check_names(self.joints)
        if self.crop_height % 8 or self.crop_width % 8:
            raise InputError(
                f"task.crop_height x task.crop_width is {self.crop_height}x{self.crop_width}; expected multiples of 8"
            )
        if any(joint >= len(self.joints) for edge in self.skeleton for joint in edge):
            raise InputError(f"task.skeleton names a joint outside 0 to {len(self.joints) - 1}: one index a joint")
        if any(start == end for start, end in self.skeleton):
            raise InputError("task.skeleton has a limb from a joint to itself; expected pairs of different joints")
        _check_indices("flip_pairs", [joint for pair in self.flip_pairs or () for joint in pair], len(self.joints))
        _check_indices("lower_body", self.lower_body or (), len(self.joints))
        if self.sigmas is not None and len(self.sigmas) != len(self.joints):
            raise InputError(f"task.sigmas has {len(self.sigmas)} numbers; expected {len(self.joints)}, one a joint")

    @property
    def oks_sigmas(self) -> tuple[float, ...]:
        """OKS sigma of each joint: the given ones, else COCO's own, else the sigma of the most similar joint."""
        if self.sigmas is not None:
            return self.sigmas
        known = self._known_sigmas()
        return tuple(known.get(index, OTHER_SIGMA) for index in range(len(self.joints)))

    def without_sigma(self) -> list[str]:
        """Joints without a given sigma and with an unknown name, for which `oks_sigmas` uses 0.079."""
        known = range(len(self.joints)) if self.sigmas is not None else self._known_sigmas()
        return [joint for index, joint in enumerate(self.joints) if index not in known]

    def _known_sigmas(self) -> dict[int, float]:
        parts = [name.part for name in read_names(self.joints)]
        others = {index: _OTHER_SIGMAS[part] for index, part in enumerate(parts) if part in _OTHER_SIGMAS}
        return others | coco_sigmas(self.joints, COCO_SIGMAS)

    @property
    def _crop_size(self) -> tuple[int, int]:
        """(width, height), as OpenCV expects it."""
        return self.crop_width, self.crop_height

    @property
    def heatmap_size(self) -> tuple[int, int]:
        """(height, width) of the heatmaps."""
        return self.crop_height // _HEATMAP_STRIDE, self.crop_width // _HEATMAP_STRIDE

    @property
    def outputs(self) -> int:
        return len(self.joints)

    def head(self, channels: int, levels: int) -> nn.Module:
        del levels
        return HeatmapHead(channels, filters=self.filters, joints=len(self.joints), upsample=self.upsample)

    def losses(self, raw: Tensor, auxiliary: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error over all heatmap pixels; unlabeled joints have zero loss but count in the mean.

        Args:
            raw: heatmaps (B, J, h, w)
            auxiliary: not used
            batch: "keypoints" (B, J, 3) in crop pixels, the third value is visibility
        """
        del auxiliary
        weights = (batch["keypoints"][..., 2] > 0).to(raw.dtype)
        errors = (raw - self.encode(batch)).square().mean(dim=(-2, -1))
        return {"heatmaps": (weights * errors).mean()}

    def encode(self, batch: Batch) -> Tensor:
        """Keypoints (B, J, 3) in crop pixels to heatmaps (B, J, h, w); joints that are not labeled stay empty."""
        keypoints = batch["keypoints"]
        heatmaps = encode_heatmaps(self._to_heatmap(keypoints[..., :2]), self.heatmap_size, sigma=self.heatmap_sigma)
        return heatmaps * (keypoints[..., 2] > 0)[..., None, None]

    def decode(self, raw: Tensor) -> Tensor:
        """Heatmaps (B, J, h, w) to (B, J, 3): x, y in crop pixels, and the score."""
        points, scores = decode_heatmaps(raw, sigma=self.heatmap_sigma)
        ratio = self._pixels_per_heatmap_pixel(points)
        return torch.cat([points * ratio, scores.unsqueeze(-1)], dim=-1)

    def _to_heatmap(self, points: Tensor) -> Tensor:
        return points / self._pixels_per_heatmap_pixel(points)

    def _pixels_per_heatmap_pixel(self, like: Tensor) -> Tensor:
        """(x, y). Unbiased (UDP, Huang et al. 2020): lengths are counted between pixel centers, hence the -1."""
        height, width = self.heatmap_size
        return like.new_tensor([(self.crop_width - 1) / (width - 1), (self.crop_height - 1) / (height - 1)])

    def metric(self, **metric_kwargs: Any) -> "PoseScores":
        # Torchmetrics takes seconds to import; recipes are read without scoring.
        from metaprompts.metrics.pose import PoseScores

        return PoseScores(
            metric_kwargs["annotations"],
            self.oks_sigmas,
            oks_nms=metric_kwargs.get("oks_nms"),
            images=metric_kwargs.get("images"),
        )

    def score(self, metric: "PoseScores", raw: Tensor, batch: Batch) -> None:
        decoded = self.decode(raw.float()).cpu().numpy()
        centers, sizes = batch["center"].cpu().numpy(), batch["size"].cpu().numpy()
        points = [
            from_crop(joints, center, size, self._crop_size)
            for joints, center, size in zip(decoded[..., :2], centers, sizes, strict=True)
        ]
        metric.update(torch.as_tensor(np.stack(points)), torch.as_tensor(decoded[..., 2]), batch)

    def model_inputs(
        self, image: ImageArray, working_size: tuple[int, int] | None, boxes: Sequence[Any] | None
    ) -> Iterator[ModelInput]:
        del working_size
        height, width = image.shape[:2]
        if boxes is None:
            # The whole image is treated as the padded crop.
            yield self._crop(image, (0.0, 0.0, width, height), 1.0, padding=1.0)
            return
        for box in boxes:
            yield self._crop(image, *_box_and_score(box), self.padding)

    def _crop(self, image: ImageArray, box_xywh: Sequence[float], score: float, padding: float) -> ModelInput:
        box = np.asarray(box_xywh, np.float32)
        center, size = box_center_scale(box, self.crop_width / self.crop_height, padding=padding)
        matrix = udp_matrix(center, size, 0.0, self._crop_size)
        crop = cv2.warpAffine(image, matrix, self._crop_size, flags=cv2.INTER_LINEAR)
        return ModelInput(image=image_tensor(crop), box_xywh=box, score=float(score), center=center, size=size)

    def assemble(self, image: ImageArray, outputs: Iterable[tuple[ModelInput, Tensor]]) -> Prediction:
        people = tuple(self._person(view, raw) for view, raw in outputs)
        return PosePrediction(people=people, joints=self.joints, skeleton=self.skeleton, image=image)

    def _person(self, view: ModelInput, raw: Tensor) -> PersonPose:
        decoded = self.decode(raw.float().unsqueeze(0))[0].cpu().numpy()
        assert view.center is not None
        assert view.size is not None
        points = from_crop(decoded[:, :2], view.center, view.size, self._crop_size)
        return PersonPose(
            keypoints=points.astype(np.float32),
            scores=decoded[:, 2],
            box_xywh=tuple(view.box_xywh.tolist()),
            score=view.score,
        )


def _box_and_score(box: Sequence[Any]) -> tuple[Sequence[float], float]:
    values = np.asarray(box)
    if values.shape not in ((4,), (5,)) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise InputError(f"a person's box is {box!r}; expected x, y, width, height and perhaps a score, in pixels")
    if not (values[2:4] > 0).all():
        raise InputError(f"a person's box is {box!r}; expected a width and a height above 0")
    return values[:4].tolist(), float(values[4]) if len(values) > 4 else 1.0


def _check_names(joints: Sequence[str]) -> None:
    if not joints:
        raise InputError("task.joints is empty; expected the name of each joint")
    check_names_are_lines("task.joints", joints)
    for name, times in Counter(joints).most_common(1):
        if times > 1:
            raise InputError(f"task.joints has {name!r} {times} times: give every joint a name of its own")


def _check_indices(key: str, indices: Sequence[int], joints: int) -> None:
    for index, times in Counter(indices).items():
        if times > 1 or not 0 <= index < joints:
            raise InputError(
                f"task.{key} has joint {index} {times} times; expected 0 to {joints - 1}, each at most once"
            )
