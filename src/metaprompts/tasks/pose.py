"""Human pose, top-down: joint heatmaps, weighted mean squared error, OKS AP."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from metaprompts.data.config.base import Openers
from metaprompts.data.config.pose import PoseAugment, PoseData, complete_joints
from metaprompts.data.datasets.held_out import image_ids
from metaprompts.data.datasets.keypoints import People
from metaprompts.data.joints import (
    COCO_JOINTS,
    COCO_SKELETON,
    describe_mirroring,
    mirror_pairs,
    mirrored_order,
    read_names,
)
from metaprompts.data.sample import Sample, SampleDataset, Split
from metaprompts.data.transforms.affine import from_crop
from metaprompts.data.transforms.pose_crop import PoseCrop
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError
from metaprompts.metrics.oks_nms import KEYPOINT_SCORES
from metaprompts.metrics.prompt_statistics import JointResponses
from metaprompts.tasks.base import About, FusedTask
from metaprompts.tasks.drawing import draw_person
from metaprompts.tasks.joint_settings import (
    OTHER_SIGMA,
    box_and_score,
    check_indices,
    check_joint_names,
    check_skeleton,
    sigmas_by_name,
    unknown_joints,
)
from metaprompts.tasks.predictions import PersonPose, PosePrediction, Prediction
from metaprompts.tasks.preprocess import ModelInput, person_view
from metaprompts.tasks.protocol import Batch, EvaluationProtocol, with_context
from metaprompts.utils.lazy import lazy_module
from metaprompts.utils.schema import Range, check_ranges
from metaprompts.visualize.pose import draw_skeleton
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from metaprompts.metrics.pose import PoseScores
    from metaprompts.tasks.protocol import Predictor
else:
    torch = lazy_module("torch")
    nn = lazy_module("torch.nn")

logger = logging.getLogger(__name__)

_HEATMAP_STRIDE = 4
_Joint = Annotated[int, Range(0, 9999)]


@dataclass(frozen=True, kw_only=True)
class PoseProtocol(EvaluationProtocol):
    """Test protocol of pose; averages heatmaps of the crop and, with left and right swapped, of its mirror image.

    A person's final score is box score x mean of the joint scores above 0.2, as in mmpose and SimpleBaseline.

    Attributes:
        oks_nms: OKS threshold of non-maximum suppression within an image (published: 0.9, for detected boxes); none
            keeps all people
    """

    oks_nms: Annotated[float, Range(0, 1, above=True)] | None = None

    def predict(self, model: Predictor, batch: Batch) -> Tensor:
        """Heatmaps (B,J,h,w); mirrored heatmaps need no shift, because UDP mirrors pixel centers onto pixel centers."""
        predict = with_context(model, batch)
        heatmaps = predict(batch["image"]).float()
        if not self.flip:
            return heatmaps
        task: Any = model.task
        order = torch.tensor(mirrored_order(task.joints, task.flip_pairs), device=heatmaps.device)
        mirrored = predict(batch["image"].flip(-1)).float()
        return (heatmaps + mirrored.flip(-1)[:, order]) / 2

    def metric_kwargs(self) -> dict[str, Any]:
        """The threshold of non-maximum suppression."""
        return {"oks_nms": self.oks_nms}


@dataclass(frozen=True, kw_only=True)
class Pose(FusedTask):
    """Settings of human pose.

    Attributes:
        joints: names of the joints. Joints named left and right are swapped in mirrored images: left_eye, L_Eye, eye.l,
            LEye, rightEye, ...
        skeleton: pairs of joint indices to draw
        flip_pairs: index pairs, from 0, of joints that are swapped in mirrored images, for example [[1,2],[3,4]]; []
            for no pairs; none to derive them from the names
        lower_body: indices of the joints from the hips down, for half-body crops; none to derive them from the names
            (hip, knee, foot, ...)
        sigmas: OKS sigma of each joint; none for COCO's sigmas, and 0.079 for joints that COCO does not have
        crop_height: height of the person's crop, in pixels, a multiple of 8
        crop_width: width of the person's crop, in pixels, a multiple of 8
        heatmap_sigma: standard deviation of a joint's Gaussian, in heatmap pixels (a quarter of the crop's)
        padding: size of the crop relative to the person's box
        filters: channels of the head's transposed convolution
    """

    name: ClassVar[str] = "pose"
    data: ClassVar[type[Any]] = PoseData
    augment: ClassVar[type[Any]] = PoseAugment
    protocol: ClassVar[type[EvaluationProtocol]] = PoseProtocol
    metrics: ClassVar[tuple[str, ...]] = (*KEYPOINT_SCORES, "pck@0.2")
    best_by: ClassVar[Mapping[str, Literal["higher", "lower"]]] = dict.fromkeys(("AP", "AP50", "pck@0.2"), "higher")
    image_metric: ClassVar[str | None] = "pck@0.2"
    nothing_scored: ClassVar[str] = "the validation split has no person that can be scored"
    published: ClassVar[str | None] = "coco_pose"
    reads_boxes: ClassVar[bool] = True
    output_names: ClassVar[str | None] = "joints"
    output_layers: ClassVar[tuple[str, ...]] = ("head.score.",)
    hub_task: ClassVar[str | None] = "keypoint-detection"
    about: ClassVar[About] = About(
        title="Human pose: the joints of each person",
        text="17 joints of the person in each given box: the person's left in orange, the right in blue.",
        scores={
            "pck@0.2": "share of joints whose error is less than a fifth of the person's box",
            "AP": "COCO's average precision, based on the distance of joints relative to the person's size",
        },
        constant="the mean pose in each box",
    )

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
        check_joint_names(self.joints)
        if self.crop_height % 8 or self.crop_width % 8:
            raise InputError(
                f"task.crop_height x task.crop_width is {self.crop_height}x{self.crop_width}; expected multiples of 8"
            )
        check_skeleton(self.skeleton, len(self.joints))
        check_indices("flip_pairs", [joint for pair in self.flip_pairs or () for joint in pair], len(self.joints))
        check_indices("lower_body", self.lower_body or (), len(self.joints))
        if self.sigmas is not None and len(self.sigmas) != len(self.joints):
            raise InputError(f"task.sigmas has {len(self.sigmas)} numbers; expected {len(self.joints)}, one per joint")

    @property
    def oks_sigmas(self) -> tuple[float, ...]:
        """OKS sigma of each joint: the given sigma, else COCO's, else that of the most similar joint."""
        return sigmas_by_name(self.joints) if self.sigmas is None else self.sigmas

    def without_sigma(self) -> list[str]:
        """Joints with neither a given sigma nor a known name, for which `oks_sigmas` uses 0.079."""
        return unknown_joints(self.joints) if self.sigmas is None else []

    @property
    def _crop_size(self) -> tuple[int, int]:
        """(width, height), as OpenCV expects it."""
        return self.crop_width, self.crop_height

    @property
    def input_size(self) -> tuple[int, int]:
        return self.crop_height, self.crop_width

    def with_input_size(self, size: tuple[int, int]) -> Pose:
        return replace(self, crop_height=size[0], crop_width=size[1])

    def comparable_names(self, names: Sequence[str]) -> Sequence[Hashable]:
        return read_names(names)

    def parts(self, data: PoseData, split: Split) -> Openers:
        return {name: partial(self._opened, part) for name, part in data.parts(split).items()}

    def _opened(self, open_part: Callable[[], SampleDataset]) -> SampleDataset:
        people = open_part()
        assert isinstance(people, People)
        people.check_joints(self.joints)
        return people

    def describe_data(self, augment: PoseAugment, test: PoseProtocol) -> list[str]:
        """Lines on how joint names are interpreted."""
        self.training_transforms(None, augment, test)
        if test.flip:
            mirror_pairs(self.joints, self.flip_pairs)
        lines = [f"{'joints':<14} {describe_mirroring(self.joints, self.flip_pairs)}"]
        if unknown := self.without_sigma():
            sigma = f"OKS sigma {OTHER_SIGMA:g} is used for {', '.join(unknown)}; set task.sigmas to change it"
            lines.append(f"{'joints':<14} {sigma}")
        return lines

    def training_transforms(self, data: Any, augment: PoseAugment, test: Any) -> list[Transform]:
        return augment.transforms(
            self.input_size, self.joints, self.padding, flip_pairs=self.flip_pairs, lower_body=self.lower_body
        )

    def validation_transforms(self, data: Any) -> list[Transform]:
        return [PoseCrop(self.crop_height, self.crop_width, self.joints, padding=self.padding)]

    def metric_kwargs(self, samples: SampleDataset, data: PoseData, test: PoseProtocol) -> dict[str, Any]:
        assert isinstance(samples, People)
        if test.flip:
            # Joint names that do not distinguish left from right raise an error here, before prediction.
            mirror_pairs(self.joints, self.flip_pairs)
        if unknown := self.without_sigma():
            logger.warning(
                "the OKS sigma of %s is set to %g: set task.sigmas to change it", ", ".join(unknown), OTHER_SIGMA
            )
        # If images are held out of a larger file, its other images must not count as missed.
        images = {} if data.val_share is None else {"images": image_ids(samples)}
        return {"annotations": samples.annotation_path, **images}

    def empty_targets(self, images: int, height: int, width: int) -> dict[str, Tensor]:
        return {"keypoints": torch.empty(images, len(self.joints), 3)}

    @property
    def heatmap_size(self) -> tuple[int, int]:
        """(height, width) of the heatmaps."""
        return self.crop_height // _HEATMAP_STRIDE, self.crop_width // _HEATMAP_STRIDE

    @classmethod
    def complete(cls, task: dict[str, Any], data: Mapping[str, Any]) -> None:
        complete_joints(task, data)

    @property
    def outputs(self) -> int:
        return len(self.joints)

    def head(self, channels: int, levels: int) -> nn.Module:
        from metaprompts.modules.heads.deconv import HeatmapHead

        return HeatmapHead(channels, filters=self.filters, joints=len(self.joints), upsample=self.upsample)

    def losses(self, raw: Tensor, auxiliary: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error over all heatmap pixels; unlabeled joints have zero loss but count in the mean.

        Args:
            raw: heatmaps (B, J, h, w)
            auxiliary: not used
            batch: "keypoints" (B, J, 3) in crop pixels, the third value is visibility
        """
        weights = (batch["keypoints"][..., 2] > 0).to(raw.dtype)
        errors = (raw - self.encode(batch)).square().mean(dim=(-2, -1))
        return {"heatmaps": (weights * errors).mean()}

    def encode(self, batch: Batch) -> Tensor:
        """Keypoints (B, J, 3) in crop pixels to heatmaps (B, J, h, w); joints that are not labeled stay empty."""
        from metaprompts.tasks.udp_heatmaps import encode_heatmaps

        keypoints = batch["keypoints"]
        points = keypoints[..., :2] / self._pixels_per_heatmap_pixel(keypoints)
        heatmaps = encode_heatmaps(points, self.heatmap_size, sigma=self.heatmap_sigma)
        return heatmaps * (keypoints[..., 2] > 0)[..., None, None]

    def disagreement(self, earlier: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        """The largest heatmap difference per pixel (over joints) and per image (over pixels, averaged over joints)."""
        differences = (earlier - later).abs().clamp(0, 1)
        return differences.amax(dim=1), differences.amax(dim=(2, 3)).mean(dim=1)

    def decode(self, raw: Tensor) -> Tensor:
        """Heatmaps (B, J, h, w) to (B, J, 3): x, y in crop pixels, and the score."""
        from metaprompts.tasks.udp_heatmaps import decode_heatmaps

        points, scores = decode_heatmaps(raw, sigma=self.heatmap_sigma)
        ratio = self._pixels_per_heatmap_pixel(points)
        return torch.cat([points * ratio, scores.unsqueeze(-1)], dim=-1)

    def _pixels_per_heatmap_pixel(self, like: Tensor) -> Tensor:
        """(x, y). Unbiased (UDP, Huang et al. 2020): lengths are counted between pixel centers, hence the -1."""
        height, width = self.heatmap_size
        return like.new_tensor([(self.crop_width - 1) / (width - 1), (self.crop_height - 1) / (height - 1)])

    def metric(self, **metric_kwargs: Any) -> PoseScores:
        # Imported here, because it imports PyTorch, which reading recipes does not need.
        from metaprompts.metrics.pose import PoseScores

        return PoseScores(sigmas=self.oks_sigmas, **metric_kwargs)

    def score(self, metric: PoseScores, raw: Tensor, batch: Batch) -> None:
        decoded = self.decode(raw.float()).cpu().numpy()
        centers, sizes = batch["center"].cpu().numpy(), batch["size"].cpu().numpy()
        points = [
            from_crop(joints, center, size, self._crop_size)
            for joints, center, size in zip(decoded[..., :2], centers, sizes, strict=True)
        ]
        metric.update(torch.as_tensor(np.stack(points)), torch.as_tensor(decoded[..., 2]), batch)

    def constant_output(self, batches: Iterable[Batch]) -> Tensor:
        """Heatmaps of the mean position of each joint over all crops."""
        keypoints = torch.cat([batch["keypoints"] for batch in batches]).float()
        labeled = keypoints[..., 2:] > 0
        mean = (keypoints[..., :2] * labeled).sum(dim=0) / labeled.sum(dim=0).clamp_min(1)
        return self.encode({"keypoints": torch.cat([mean, torch.full((len(mean), 1), 2.0)], dim=-1)[None]})

    def prompt_responses(self, prompts: int) -> JointResponses:
        return JointResponses(prompts, self.joints)

    def amount_of(self, place: int, sample: Sample) -> float:
        """The person's size, if the joint is visible."""
        assert sample.person is not None
        visible = sample.person.keypoints[place, 2] == 2
        return float(visible * sample.person.box_xywh[2] * sample.person.box_xywh[3])

    def draw_target(self, sample: Sample) -> ImageArray:
        assert sample.person is not None
        keypoints = sample.person.keypoints[None]
        return draw_skeleton(sample.image, keypoints[..., :2], keypoints[..., 2], self.skeleton, joints=self.joints)

    def draw_prediction(self, prediction: PosePrediction, sample: Sample) -> ImageArray:
        return np.asarray(prediction.show(legend=False, boxes=False))

    def draw_sample(self, sample: Sample) -> ImageArray:
        """A person, drawn with this box."""
        return draw_person(sample, self.skeleton, self.joints)

    def export_input(self) -> str:
        return (
            "Cut out each person: lengthen the box's shorter side to the input's aspect, then enlarge both by the "
            "padding, about the box's center; map the box's edges to the centers of the input's outermost pixels, "
            "bilinearly; outside the image is black. Without boxes, the whole image is one box, without padding."
        )

    def export_output(self, size: tuple[int, int]) -> dict[str, Any]:
        return {
            "name": "heatmaps",
            "shape": ["batch", len(self.joints), *(side // _HEATMAP_STRIDE for side in size)],
            "meaning": (
                "A joint's score is the largest value of its heatmap. Its position is the center of a Gaussian of "
                "width sigma fitted to the logarithm of the values within ceil(1.5 sigma) of that pixel, by least "
                "squares weighted by their squares. Column c of a heatmap with w columns is column "
                "c * (W - 1) / (w - 1) of an input with W columns; rows likewise. Column c of the input is at "
                "left + c * width / (W - 1) of an enlarged box."
            ),
            "joints": list(self.joints),
            "skeleton": [list(edge) for edge in self.skeleton],
            "sigma": self.heatmap_sigma,
            "padding": self.padding,
        }

    @classmethod
    def example_code(cls) -> str:
        return (resources.files("metaprompts.tasks") / "standalone" / "pose.py").read_text(encoding="utf-8")

    def model_inputs(
        self, image: ImageArray, working_size: tuple[int, int] | None, boxes: Sequence[Any] | None
    ) -> Iterator[ModelInput]:
        height, width = image.shape[:2]
        if boxes is None:
            # The whole image is treated as the padded crop.
            yield person_view(image, (0.0, 0.0, width, height), self._crop_size, padding=1.0)
            return
        for box in boxes:
            box_xywh, score = box_and_score(box)
            yield person_view(image, box_xywh, self._crop_size, padding=self.padding, score=score)

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
