from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from labeled_folders import segmentation_folder
from metaprompts.data.datasets.transformed import Transformed
from metaprompts.data.loading import prepare_reader
from metaprompts.data.sample import Crop, Person, Sample
from metaprompts.data.transforms.color import CutDepth, PhotometricDistortion
from metaprompts.data.transforms.geometric import Pad, RandomCrop, RandomFlip, RandomResize
from metaprompts.data.transforms.tensors import to_tensors
from metaprompts.data.transforms.transform import EveryNth
from metaprompts.errors import InputError


class Noise:
    """Ten images of noise with labels and depth."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        generator = np.random.default_rng(index)
        return Sample(
            image=generator.integers(0, 256, (40, 50, 3), dtype=np.uint8),
            path=str(index),
            labels=generator.integers(0, 5, (40, 50), dtype=np.uint8),
            depth_m=generator.uniform(1, 9, (40, 50)).astype(np.float32),
        )


TRANSFORMS = (
    EveryNth(CutDepth(mode="scaled", max_depth_m=10), every=4),
    RandomResize(48, 64, (0.5, 2.0), keeps_aspect=True),
    RandomCrop(32, 32, 0.75),
    RandomFlip(),
    PhotometricDistortion(),
    Pad(32, 32),
)


def transformed(seed=3):
    return Transformed(Noise(), TRANSFORMS, seed=seed)


def stack(loader):
    batches = list(loader)
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one.keys() | other.keys())


class TestRepeatable:
    def test_any_number_of_workers_and_epochs(self):
        """Persistent workers are forked once, yet must see the epoch set later."""
        alone, helped = transformed(), transformed()
        workers = DataLoader(
            helped, batch_size=5, num_workers=2, persistent_workers=True, worker_init_fn=prepare_reader
        )
        epochs = []
        for epoch in (0, 1):
            alone.set_epoch(epoch)
            helped.set_epoch(epoch)
            epochs.append(stack(DataLoader(alone, batch_size=5)))
            assert same(epochs[-1], stack(workers))
        assert not torch.equal(epochs[0]["image"], epochs[1]["image"])

    def test_order_does_not_matter(self):
        dataset = transformed()
        later = dataset[7]
        dataset[2]
        assert same(later, dataset[7])
        assert same(later, dataset[-3])

    def test_seed_index_and_epoch_matter(self):
        """One image, read as several: only the random numbers differ."""

        class Same(Noise):
            def __getitem__(self, index):
                return super().__getitem__(0)

        def image(seed, epoch, index):
            dataset = Transformed(Same(), TRANSFORMS[1:], seed=seed)
            dataset.set_epoch(epoch)
            return dataset[index]["image"]

        images = [image(*case) for case in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]]
        assert all(not torch.equal(images[a], images[b]) for a in range(4) for b in range(a))

    def test_every_fourth_sample_shifts_with_the_epoch(self):
        dataset = Transformed(Noise(), TRANSFORMS[:1], seed=0)
        for epoch in range(3):
            dataset.set_epoch(epoch)
            cut = [
                index for index in range(10) if not np.array_equal(dataset.sample(index).image, Noise()[index].image)
            ]
            assert cut == [index for index in range(10) if (index + epoch) % 4 == 0]

    def test_transforms_leave_their_input_alone(self):
        sample = Noise()[0]
        before = replace(sample, image=sample.image.copy(), labels=sample.labels.copy(), depth_m=sample.depth_m.copy())
        generator = np.random.default_rng(0)
        for _ in range(20):
            for transform in TRANSFORMS:
                transform(sample, generator)
        for name in ("image", "labels", "depth_m"):
            assert np.array_equal(getattr(sample, name), getattr(before, name))

    def test_bad_numbers(self):
        with pytest.raises(InputError, match="seed is -1"):
            transformed(seed=-1)
        with pytest.raises(ValueError, match="epoch is -1"):
            transformed().set_epoch(-1)
        with pytest.raises(IndexError):
            transformed()[10]


class TestTensors:
    def test_dense(self):
        image = np.array([[[0, 51, 255]]], np.uint8)
        sample = Sample(image=image, path="", labels=np.array([[255]], np.uint8), depth_m=np.array([[1.5]], np.float32))
        tensors = to_tensors(sample)
        assert tensors.keys() == {"image", "labels", "depth_m"}
        assert tensors["image"].shape == (3, 1, 1)
        assert to_tensors(Noise()[0])["image"].is_contiguous()
        assert tensors["image"].ravel().tolist() == pytest.approx([0, 0.2, 1])
        assert (tensors["labels"].dtype, tensors["labels"].tolist()) == (torch.int64, [[255]])
        assert (tensors["depth_m"].dtype, tensors["depth_m"].tolist()) == (torch.float32, [[1.5]])

    def test_person(self):
        person = Person(
            keypoints=np.ones((2, 3), np.float32),
            box_xywh=np.arange(4, dtype=np.float32),
            image_id=2**40,
            annotation_id=5,
            score=0.5,
            area=7,
        )
        whole = Sample(image=np.zeros((1, 1, 3), np.uint8), path="", person=person)
        crop = Crop(center=np.array([1, 2], np.float32), size=np.array([3, 4], np.float32))
        tensors = to_tensors(replace(whole, person=replace(person, crop=crop)))
        assert {key: value.tolist() for key, value in tensors.items() if key != "image"} == {
            "keypoints": [[1, 1, 1], [1, 1, 1]],
            "box_xywh": [0, 1, 2, 3],
            "image_id": 2**40,
            "annotation_id": 5,
            "score": 0.5,
            "area": 7,
            "center": [1, 2],
            "size": [3, 4],
        }
        assert tensors["image_id"].dtype == tensors["annotation_id"].dtype == torch.int64
        assert tensors["score"].dtype == tensors["area"].dtype == torch.float32
        assert to_tensors(whole).keys() == tensors.keys() - {"center", "size"}

    def test_mirrored_views_are_taken(self):
        """A flipped numpy view has negative strides, which torch refuses."""
        sample = Noise()[0]
        flipped = replace(sample, image=sample.image[:, ::-1], labels=sample.labels[:, ::-1])
        assert torch.equal(to_tensors(flipped)["image"], to_tensors(sample)["image"].flip(2))
        assert torch.equal(to_tensors(flipped)["labels"], to_tensors(sample)["labels"].flip(1))


def test_camvid(shared_data):
    dataset = segmentation_folder(shared_data / "camvid", "train.txt", classes=11, ignored=(11,))
    train = Transformed(dataset, TRANSFORMS[1:], seed=0)
    for index in range(5):
        tensors = train[index]
        assert tensors["image"].shape == (3, 32, 32)
        assert 0 <= tensors["image"].min() < tensors["image"].max() <= 1
        assert set(tensors["labels"].unique().tolist()) <= {*range(11), 255}
