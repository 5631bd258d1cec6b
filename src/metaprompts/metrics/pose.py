"""Keypoint scores of a split: OKS AP and AR, and PCK."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprompts.data.io.coco_entries import check_unique
from metaprompts.metrics.keypoints import KeypointScores
from metaprompts.metrics.pck import PercentageCorrectKeypoints

Batch = Mapping[str, Tensor]


class PoseScores:
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
        check_unique(
            (person["source_id"] for person in people),
            annotations,
            "people",
            "annotation id",
            "number the annotations",
        )
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
        """COCO's ten scores, "AP" to "ARL", and "pck@0.2", over the people of this process."""
        return {**self.precision.scores(), **self.correct.scores()}

    def compute(self) -> dict[str, float]:
        """The scores over all processes."""
        return {**self.precision.compute(), **self.correct.compute()}

    def reset(self) -> None:
        """Reset the metric."""
        self.precision.reset()
        self.correct.reset()

    def state(self) -> dict[str, Any]:
        """Everything counted so far, as plain values: ``people``, the rows of `KeypointScores`, and joint counts."""
        correct, labeled = int(self.correct.correct), int(self.correct.labeled)
        return {"people": self.precision.rows().tolist(), "correct": correct, "labeled": labeled}

    def add(self, state: Mapping[str, Any]) -> None:
        """Add the counts of another metric's `state`."""
        self.precision.add(state["people"])
        self.correct.correct += state["correct"]
        self.correct.labeled += state["labeled"]

    def summary(self) -> dict[str, float]:
        """The scores that are listed for each person: the final score, and PCK."""
        return {"score": float(self.precision.final_scores().mean()), **self.correct.scores()}
