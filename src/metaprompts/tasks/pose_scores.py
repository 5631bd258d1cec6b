"""Keypoint scores of a split: OKS AP and AR, and PCK."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from metaprompts.evaluation.pose import KeypointScores, PercentageCorrectKeypoints
from metaprompts.files import read_json
from metaprompts.tasks.base import Batch


class PoseScores:
    """COCO's ten numbers and PCK@0.2, from predictions in the pixels of their pictures.

    Args:
        annotations: COCO keypoint JSON of the split
        sigmas: OKS sigma of each joint
    """

    def __init__(self, annotations: Path, sigmas: Sequence[float]) -> None:
        content = read_json(annotations)
        self.precision = KeypointScores(content, sigmas)
        self.correct = PercentageCorrectKeypoints()
        self._truth = {
            person["id"]: torch.tensor(person["keypoints"], dtype=torch.float32).view(-1, 3)
            for person in content["annotations"]
            if person.get("num_keypoints")
        }

    def update(self, points: Tensor, scores: Tensor, batch: Batch) -> None:
        """Count a batch.

        Args:
            points: (B, J, 2) in pixels of the pictures
            scores: (B, J)
            batch: "image_id", "annotation_id", "score", "area" (B,), "keypoints" (B, J, 3) and "box_xywh" (B, 4)
        """
        area = batch["box_xywh"][:, 2] * batch["box_xywh"][:, 3]
        self.precision.update(batch["image_id"], points, scores, batch["score"], area)
        # The crop's own keypoints lack those outside it. Detected boxes have no annotated person at all.
        annotated = [i for i in range(len(points)) if bool((batch["keypoints"][i, :, 2] > 0).any())]
        if annotated:
            truth = torch.stack([self._truth[int(batch["annotation_id"][i])] for i in annotated])
            self.correct.update(points[annotated].float(), truth, batch["box_xywh"][annotated].cpu())

    def compute(self) -> dict[str, float]:
        """AP to ARL, and "pck@0.2"."""
        return {**self.precision.compute(), **self.correct.compute()}
