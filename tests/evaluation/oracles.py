"""Cheap predictors and samples for tests of evaluation, and mmsegmentation's inference in its own words."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from metaprompts.data.sample import Person, Sample
from metaprompts.tasks import Depth, Pose, Segmentation

TASKS = {
    "segmentation": Segmentation(classes=("a", "b", "c")),
    "depth": Depth(max_depth_m=10.0, margin_blocks=0),
    "pose": Pose(crop_height=64, crop_width=64),
}


@dataclass
class Oracle:
    """Predicts from colors alone, without weights."""

    task: object
    training: bool = False
    calls: int = 0

    @property
    def device(self):
        return torch.device("cpu")

    def train(self, mode=True):
        self.training = mode

    def eval(self):
        self.training = False

    def __call__(self, images):
        assert not self.training
        self.calls += 1
        place = torch.linspace(0, 1, images.shape[-1], dtype=images.dtype)
        if self.task.name == "segmentation":
            return images * (1 + place) * 5
        if self.task.name == "depth":
            return images[:, :1] * (1 + place) + 0.5
        return F.avg_pool2d(images.repeat(1, 6, 1, 1)[:, :17] * (1 + place), 4)


class Samples:
    """A few small images of different sizes with every kind of target but people."""

    def __init__(self, count, root, sizes=((40, 56), (48, 48))):
        self.count, self.root, self.sizes, self.read = count, root, sizes, []

    def __len__(self):
        return self.count

    def files(self, index):
        return (self.root / f"truth-{index}", self.root / "truth.json")

    def __getitem__(self, index):
        self.read.append(index)
        generator = np.random.default_rng(index)
        size = self.sizes[index % len(self.sizes)]
        labels = generator.choice([0, 1, 2, 255], size).astype(np.uint8)
        depth_m = generator.uniform(0, 12, size).astype(np.float32)
        if index == 2:  # an image in which nothing counts
            labels[:], depth_m[:] = 255, 0
        image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        return Sample(image=image, path=str(self.root / f"images/{index}.png"), labels=labels, depth_m=depth_m)


class People(Samples):
    """Two people in each of the images that `truth` annotates, and in the last one nobody."""

    def __getitem__(self, index):
        self.read.append(index)
        generator = np.random.default_rng(index // 2)
        image = generator.integers(0, 256, (80, 100, 3), dtype=np.uint8)
        entry = self.truth()["annotations"][index]
        person = Person(
            keypoints=np.array(entry["keypoints"], np.float32).reshape(17, 3),
            box_xywh=np.array(entry["bbox"], np.float32),
            image_id=entry["image_id"],
            annotation_id=entry["id"],
            score=1.0,
            area=entry["area"],
        )
        return Sample(image=image, path=str(self.root / f"images/{index // 2}.png"), person=person)

    def truth(self):
        generator = np.random.default_rng(7)
        people = [
            {
                "id": 10 + index,
                "image_id": 1 + index // 2,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [5 + 30 * (index % 2), 10, 50, 60],
                "area": 1500.0,
                "num_keypoints": 17,
                "keypoints": np.column_stack([generator.uniform(10, 70, (17, 2)), np.full(17, 2)]).ravel().tolist(),
            }
            for index in range(self.count)
        ]
        images = [{"id": number, "width": 100, "height": 80} for number in range(1, self.count // 2 + 2)]
        return {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}


def mm_slide(predict, images, window, stride, classes=2):
    """mmsegmentation's slide_inference, one window after the other."""
    (tall, wide), (down, right) = window, stride
    count_images, _, height, width = images.shape
    total = torch.zeros(count_images, classes, height, width)
    count = torch.zeros(count_images, 1, height, width)
    for row in range(max(height - tall + down - 1, 0) // down + 1):
        for column in range(max(width - wide + right - 1, 0) // right + 1):
            bottom, end = min(row * down + tall, height), min(column * right + wide, width)
            top, start = max(bottom - tall, 0), max(end - wide, 0)
            logits = predict(images[:, :, top:bottom, start:end])
            total += F.pad(logits, (start, width - end, top, height - bottom))
            count[:, :, top:bottom, start:end] += 1
    return total / count


def mm_aug_test(predict, images, size, window, stride):
    """mmsegmentation's aug_test: each view's logits resized, softmax, flipped back, summed, divided."""
    outputs = []
    for image in images:
        for flipped in (False, True):
            given = image.flip(3) if flipped else image
            logits = predict(given) if window is None else mm_slide(predict, given, window, stride, classes=3)
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
            output = F.softmax(logits, dim=1)
            outputs.append(output.flip(dims=(3,)) if flipped else output)
    return sum(outputs) / len(outputs)
