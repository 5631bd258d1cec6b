"""Predict a test split and write the files for its server."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from metaprompts.data.joints import mirror_pairs
from metaprompts.data.loading import Reader
from metaprompts.data.sample import SampleDataset
from metaprompts.data.transforms.pose_crop import PoseCrop
from metaprompts.data.transforms.transform import Transform
from metaprompts.evaluation.dataset import EvalDataset, EvalSample, in_groups, stacked
from metaprompts.evaluation.evaluate import predict, targets
from metaprompts.evaluation.submission.archive import check_suffix, check_unique_names, packed, write_alone
from metaprompts.evaluation.submission.formats import Format, png
from metaprompts.evaluation.submission.test_sets import DetectedPeople
from metaprompts.metrics.pose import KeypointScores
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks.pose import Pose, PoseProtocol
from metaprompts.tasks.preprocess import at_size
from metaprompts.tasks.protocol import EvaluationProtocol

OnDone = Callable[[int], None]


@torch.no_grad()
def submit_maps(
    model: MetaPromptModel,
    samples: SampleDataset,
    transforms: Sequence[Transform],
    test: EvaluationProtocol,
    form: Format,
    out: Path,
    *,
    workers: int = 0,
    on_done: OnDone = lambda samples: None,
) -> None:
    """Write a PNG for every image, at the image's own size.

    Args:
        model: a model for segmentation or depth
        samples: the test images
        transforms: transforms of the data section
        test: the test protocol
        form: a format with ``encode``
        out: a folder, or a name that ends in .zip
        workers: number of reader processes
        on_done: called with the number of images after each image

    Raises:
        InputError: an image is invalid or misnamed, or ``out`` cannot be written
    """
    assert form.encode is not None
    # Report a wrong name before hours of work.
    check_unique_names([form.name(Path(samples.path(index))) for index in range(len(samples))])
    with packed(out) as add:
        for image in _reader(EvalDataset(samples, transforms, test), 1, workers):
            ((_, batch),) = stacked(image)
            name = form.name(Path(image[0].path))
            raw = at_size(predict(model.eval(), batch, test), batch["original_size"][0].tolist())
            add(name, png(form.encode(model.task.decode(raw)[0].numpy())))
            on_done(1)


@torch.no_grad()
def submit_people(
    model: MetaPromptModel,
    people: DetectedPeople,
    test: PoseProtocol,
    out: Path,
    *,
    samples: SampleDataset | None = None,
    batch_size: int = 1,
    workers: int = 0,
    on_done: OnDone = lambda samples: None,
) -> None:
    """Write COCO's keypoint results: a list of image_id, category_id, keypoints (x, y, score, ...) and score.

    Args:
        model: a model for pose
        people: the boxes
        test: the test protocol, and whether duplicate people are removed
        out: a name that ends in .json, or in .zip for an archive with one JSON file
        samples: the same people with the captions of their images as further model input; None without captions
        batch_size: people per forward pass
        workers: number of reader processes
        on_done: called with the number of people after each pass

    Raises:
        InputError: an image is invalid, the joint names do not define mirroring, or ``out`` has the wrong extension or
            cannot be written
    """
    task = model.task
    assert isinstance(task, Pose)
    check_suffix(out)
    if test.flip:
        mirror_pairs(task.joints, task.flip_pairs)
    crop = PoseCrop(task.crop_height, task.crop_width, task.joints, padding=task.padding)
    found = _Found(people, task, test)
    for group in _reader(EvalDataset(people if samples is None else samples, [crop], test), batch_size, workers):
        for _, batch in stacked(group):
            # The task's own scoring maps joints from the crop to the image.
            task.score(found, predict(model.eval(), batch, test), targets(batch))  # type: ignore[arg-type]
        on_done(len(group))
    write_alone(out, json.dumps(found.scores.results(), separators=(",", ":"), allow_nan=False) + "\n")


class _Found:
    """Collects the results of `Pose.score`."""

    def __init__(self, people: DetectedPeople, task: Pose, test: PoseProtocol) -> None:
        no_people = {"images": people.images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
        self.scores = KeypointScores(no_people, task.oks_sigmas, nms_threshold=test.oks_nms)

    def update(self, points: Tensor, scores: Tensor, batch: Mapping[str, Tensor]) -> None:
        self.scores.update(batch["image_id"], points, scores, batch["score"], batch["size"].prod(dim=1))


def _reader(images: EvalDataset, group: int, workers: int) -> Reader[list[EvalSample]]:
    return Reader(images, list, workers=workers, batch_sampler=in_groups(len(images), group))
