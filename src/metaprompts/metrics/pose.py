"""Keypoint scores of a split: OKS AP and AR, and PCK."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprompts.data.io.coco_entries import check_unique
from metaprompts.errors import InputError
from metaprompts.metrics.base import Metric
from metaprompts.metrics.keypoints import KeypointScores

Batch = Mapping[str, Tensor]


class PercentageCorrectKeypoints:
    """PCK: the fraction of labeled joints that lie within ``threshold`` times the long side of the person's box.

    Joints are pooled over people before dividing.

    Args:
        threshold: allowed distance, as a fraction of the box's long side

    Attributes:
        correct: number of joints within that distance
        labeled: number of labeled joints
    """

    def __init__(self, threshold: float = 0.2) -> None:
        self.threshold = threshold
        self.correct = self.labeled = 0

    def update(self, predicted: Tensor, target: Tensor, box_xywh: Tensor) -> None:
        """Count the joints of a batch.

        Args:
            predicted: (B,J,2) pixels
            target: (B,J,3) x, y in pixels and visibility; only joints with visibility > 0 count
            box_xywh: (B,4) pixels

        Raises:
            InputError: the shapes do not match
        """
        people, joints = predicted.shape[:2]
        if predicted.shape[2:] != (2,) or target.shape != (people, joints, 3) or box_xywh.shape != (people, 4):
            raise InputError(
                f"shapes for PCK are predictions {tuple(predicted.shape)}, targets {tuple(target.shape)}, boxes "
                f"{tuple(box_xywh.shape)}; expected (B,J,2), (B,J,3) and (B,4)"
            )
        reach = self.threshold * box_xywh[:, 2:].amax(1, keepdim=True)
        labeled = target[..., 2] > 0
        near = (predicted - target[..., :2]).square().sum(-1).sqrt() <= reach
        self.correct += int((near & labeled).sum())
        self.labeled += int(labeled.sum())

    def scores(self) -> dict[str, float]:
        """``pck@THRESHOLD``, the fraction of correct joints in 0..1, nan if no joint was labeled."""
        share = self.correct / self.labeled if self.labeled else float("nan")
        return {f"pck@{self.threshold:g}": share}


class PoseScores(Metric):
    """COCO's ten numbers and PCK@0.2, from predictions in pixels of the images.

    Args:
        annotations: COCO keypoint JSON of the split
        sigmas: OKS sigma of each joint
        oks_nms: remove people whose OKS with a better-scored person in the same image is above this; None to keep all
        images: ids of the images to score; None for all images of the annotations

    Raises:
        InputError: the annotations cannot be read, or two people have the same id
    """

    def __init__(
        self,
        annotations: Path,
        sigmas: Sequence[float],
        *,
        oks_nms: float | None = None,
        images: Collection[int] | None = None,
    ) -> None:
        self.precision = KeypointScores(annotations, sigmas, nms_threshold=oks_nms)
        if images is not None:
            self.precision.keep_images(images)
        self.correct = PercentageCorrectKeypoints()
        # Crowds may share ids with other annotations, because nothing is predicted for crowds.
        people = [
            person
            for person in self.precision.ground_truth["annotations"]
            if person["num_keypoints"] and not person["iscrowd"]
        ]
        numbers = (person["source_id"] for person in people)
        check_unique(numbers, annotations, "people", "annotation id", "number the annotations")
        self._truth = {
            person["source_id"]: torch.tensor(person["keypoints"], dtype=torch.float32).view(-1, 3) for person in people
        }

    def update(self, points: Tensor, scores: Tensor, batch: Batch) -> None:
        """Count a batch.

        Args:
            points: (B, J, 2) in pixels of the images
            scores: (B, J)
            batch: "image_id", "annotation_id", "score" (B,), "keypoints" (B, J, 3), "box_xywh" (B, 4) and "size" (B, 2)
        """
        # mmpose and SimpleBaseline use the area of the crops in the similarity of two people.
        area = batch["size"].prod(dim=1)
        self.precision.update(batch["image_id"], points, scores, batch["score"], area)
        # The crop's own keypoints lack joints outside the crop, and detected boxes have no annotated person at all.
        annotated = [i for i in range(len(points)) if bool((batch["keypoints"][i, :, 2] > 0).any())]
        if annotated:
            truth = torch.stack([self._truth[int(batch["annotation_id"][i])] for i in annotated])
            self.correct.update(points[annotated].float(), truth, batch["box_xywh"][annotated].cpu())

    def scores(self) -> dict[str, float]:
        """COCO's ten scores, "AP" to "ARL", and "pck@0.2"."""
        return self.precision.scores() | self.correct.scores()

    def reset(self) -> None:
        self.precision.reset()
        self.correct = PercentageCorrectKeypoints()

    def state(self) -> dict[str, Any]:
        """``people``, the rows of `KeypointScores`, and joint counts."""
        people = self.precision.rows().tolist()
        return {"people": people, "correct": self.correct.correct, "labeled": self.correct.labeled}

    def add(self, state: Mapping[str, Any]) -> None:
        self.precision.add(state["people"])
        self.correct.correct += state["correct"]
        self.correct.labeled += state["labeled"]

    def summary(self) -> dict[str, float]:
        """The final score, and PCK."""
        return {"score": float(self.precision.final_scores().mean())} | self.correct.scores()
