"""Keypoint scores of a split: OKS AP and AR, and PCK."""

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaprompts.data.io.coco_annotations import as_ground_truth
from metaprompts.data.io.coco_entries import check_unique
from metaprompts.errors import InputError
from metaprompts.metrics.base import Metric
from metaprompts.metrics.oks_nms import COCO_SIGMAS, KEYPOINT_SCORES, keep_best, mean_above
from metaprompts.utils.files import read_json

Batch = Mapping[str, Tensor]


class KeypointScores:
    """COCO's ten keypoint numbers, computed by faster-coco-eval from all predictions.

    A person's final score is box score times the mean of those joint scores that exceed 0.2 (0 if none does), as in
    mmpose. Every image of ``ground_truth`` counts, predicted or not.

    Args:
        ground_truth: COCO keypoint annotations, a dict or a JSON file; it is not changed. An annotation without
            "iscrowd" is not a crowd; if it has no "area" above 0, the area of its box is used. All categories with the
            same joints as the first category with joints are scored as one, regardless of their ids; other categories
            are skipped, as in training. Crowds and people without labeled joints may lack keypoints; they are skipped,
            as in COCO.
        sigmas: J numbers, the spread of annotations for each joint; ``COCO_SIGMAS`` for the 17 joints of COCO
        nms_threshold: remove people whose OKS with a better-scored person in the same image is above this (mmpose:
            0.9); None to keep all
        images: ids of the images to score; None for all images of the annotations

    Raises:
        InputError: the annotations cannot be read, or the numbers of joints and sigmas differ
    """

    def __init__(
        self,
        ground_truth: dict[str, Any] | Path,
        sigmas: Sequence[float] = COCO_SIGMAS,
        *,
        nms_threshold: float | None = None,
        images: Collection[int] | None = None,
    ) -> None:
        self.sigmas = tuple(float(sigma) for sigma in sigmas)
        content = read_json(ground_truth) if isinstance(ground_truth, Path) else ground_truth
        where = ground_truth if isinstance(ground_truth, Path) else "the keypoint annotations"
        truth = as_ground_truth(content, where, len(self.sigmas))
        if images is not None:
            truth["images"] = [image for image in truth["images"] if image["id"] in images]
            truth["annotations"] = [person for person in truth["annotations"] if person["image_id"] in images]
        self.ground_truth = truth
        self.nms_threshold = nms_threshold
        self._category = int(self.ground_truth["categories"][0]["id"])
        self.reset()

    def reset(self) -> None:
        """Discard all predictions."""
        self._batches = [np.zeros((0, 4 + 3 * len(self.sigmas)))]

    def update(
        self, image_id: Tensor, keypoints: Tensor, keypoint_scores: Tensor, box_score: Tensor, area: Tensor
    ) -> None:
        """Add the predictions of P people, from any images.

        Args:
            image_id: (P,) integers, ids of the annotations' images
            keypoints: (P,J,2) x and y in pixels of the annotated image
            keypoint_scores: (P,J), usually in 0..1
            box_score: (P,), score of the detector; 1 for annotated boxes
            area: (P,) square pixels, the person's box or mask; used only to remove duplicates

        Raises:
            InputError: shapes disagree with each other or with the sigmas
        """
        people, joints = len(image_id), len(self.sigmas)
        if keypoints.shape != (people, joints, 2) or keypoint_scores.shape != (people, joints):
            raise InputError(
                f"keypoints are {tuple(keypoints.shape)} with scores {tuple(keypoint_scores.shape)}; expected "
                f"({people},{joints},2) and ({people},{joints}) for {people} image ids and {joints} sigmas"
            )
        category = torch.full((people,), self._category)
        columns = torch.stack([each.cpu().double() for each in (image_id, category, box_score, area)], 1)
        joint_rows = torch.cat([keypoints.cpu().double(), keypoint_scores.cpu().double()[..., None]], -1).flatten(1)
        self.add(torch.cat([columns, joint_rows], 1).numpy())

    def scores(self) -> dict[str, float]:
        """COCO's numbers.

        Returns:
            the ``KEYPOINT_SCORES`` by name: precision and recall in 0..1; -1 if no annotated person has that size, as
            in COCO's own evaluation
        """
        from faster_coco_eval import COCO, COCOeval_faster

        # The evaluation modifies its arguments.
        truth = COCO(copy.deepcopy(self.ground_truth))
        evaluation = COCOeval_faster(
            truth, truth.loadRes(self.results()), iouType="keypoints", kpt_oks_sigmas=list(self.sigmas)
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return {name: float(value) for name, value in zip(KEYPOINT_SCORES, evaluation.stats, strict=True)}

    def results(self) -> list[dict[str, Any]]:
        """All predictions, without duplicates, as entries of a COCO keypoint results file.

        Returns:
            dicts of image_id, category_id, keypoints (x, y, score, x, ...) and the final score

        Raises:
            InputError: a prediction is for an image without annotations
        """
        rows, scores = self.rows(), self.final_scores()
        joints = rows[:, 4:].reshape(len(rows), len(self.sigmas), 3)
        unknown = {int(number) for number in rows[:, 0]} - {int(image["id"]) for image in self.ground_truth["images"]}
        if unknown:
            raise InputError(
                f"people were predicted for image id {min(unknown)}, which is not in the annotations: predict the "
                "images of the annotation file used for scoring"
            )
        return [
            {
                "image_id": int(rows[index, 0]),
                "category_id": int(rows[index, 1]),
                "keypoints": joints[index].flatten().tolist(),
                "score": float(scores[index]),
            }
            for index in self._kept(rows, joints, scores)
        ]

    def rows(self) -> NDArray[np.float64]:
        """(P, 4 + 3J): all predictions: image id, category, box score, area; x, y, score."""
        return np.concatenate(self._batches)

    def add(self, rows: NDArray[np.float64] | Sequence[Sequence[float]]) -> None:
        """Add the `rows` of another object."""
        self._batches.append(np.asarray(rows, np.float64).reshape(-1, 4 + 3 * len(self.sigmas)))

    def final_scores(self) -> NDArray[np.float64]:
        """(P,) box score times mean joint score of all predictions."""
        rows = self.rows()
        means = mean_above(rows[:, 4:].reshape(len(rows), len(self.sigmas), 3)[..., 2])
        return np.asarray(rows[:, 2] * means, np.float64)

    def _kept(
        self, rows: NDArray[np.float64], joints: NDArray[np.float64], scores: NDArray[np.float64]
    ) -> NDArray[np.intp]:
        if self.nms_threshold is None:
            return np.arange(len(rows))
        kept: list[int] = []
        for group in np.unique(rows[:, :2], axis=0):
            here = np.flatnonzero((rows[:, :2] == group).all(1))
            best = keep_best(
                joints[here, :, :2], scores[here], rows[here, 3], self.sigmas, threshold=self.nms_threshold
            )
            kept.extend(here[best].tolist())
        return np.sort(np.array(kept, dtype=np.intp))


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
        self.precision = KeypointScores(annotations, sigmas, nms_threshold=oks_nms, images=images)
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
