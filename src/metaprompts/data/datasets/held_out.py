"""The images of the training and the validation split: a fraction held out, and images in both."""

import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from metaprompts.data.datasets.keypoints import People
from metaprompts.data.datasets.views import View
from metaprompts.data.sample import Person, SampleDataset
from metaprompts.errors import InputError

logger = logging.getLogger(__name__)


class Subset(View):
    """A subset of a data set's samples, in their original order.

    Args:
        samples: the data set
        places: indices of the samples to take
    """

    def __init__(self, samples: SampleDataset, places: Sequence[int]) -> None:
        super().__init__(samples)
        self.places = tuple(places)

    def __len__(self) -> int:
        return len(self.places)

    def _find(self, index: int) -> tuple[SampleDataset, int]:
        return self.samples, self.places[index]


class SubsetOfPeople(Subset, People):
    """Some of the people in an annotation file."""

    def __init__(self, samples: People, places: Sequence[int]) -> None:
        super().__init__(samples, places)
        self._people = samples
        self.annotation_path = samples.annotation_path
        self.joint_names, self.skeleton = samples.joint_names, samples.skeleton

    def by_image(self) -> list[list[int]]:
        """The samples of each image; images and samples keep the samples' order."""
        groups: dict[str, list[int]] = {}
        for index in range(len(self)):
            groups.setdefault(self.path(index), []).append(index)
        return list(groups.values())

    def person(self, index: int) -> Person:
        """The person of a sample, without loading its image if possible."""
        return self._people.person(self.places[index])


def image_ids(people: People) -> frozenset[int]:
    """The ids of the people's images."""
    return frozenset(people.person(index).image_id for index in range(len(people)))


def subset(samples: SampleDataset, places: Sequence[int]) -> Subset:
    """A subset of a data set; a `SubsetOfPeople` if it has people."""
    return SubsetOfPeople(samples, places) if isinstance(samples, People) else Subset(samples, places)


def hold_out(
    paths: Iterable[str], share: float, seed: int, root: Path, names: Sequence[str] | None = None
) -> tuple[list[int], list[int]]:
    """Split samples into training and validation samples, keeping the samples of an image together.

    The seed and the image names relative to ``root`` alone determine the held-out images; their order and the location
    of the data set do not matter.

    Args:
        paths: paths of each sample's image
        share: fraction of the images to hold out; at least one image is held out, and at least one is not
        seed: determines which images are held out
        root: root folder of the data set
        names: names, relative to ``root``, of the images to hold out if they were drawn before; None to draw them

    Returns:
        indices to train on and indices to validate on, both ascending

    Raises:
        InputError: there is only one image, or previously drawn images are missing
    """
    # An image may be reached by several spellings or links, but must not be in both parts.
    places: dict[str, list[int]] = {}
    files: dict[str, str] = {}
    for place, path in enumerate(paths):
        file = os.path.realpath(path)
        places.setdefault(file, []).append(place)
        files.setdefault(_name(path, root), file)
    if len(places) < 2:
        raise InputError(
            f"data.val {share:g} cannot hold out a fraction of {len(places)} training image: give more images, a list "
            "of validation images, or --data.val none"
        )
    first_names = {file: name for name, file in sorted(files.items(), reverse=True)}
    chosen = _drawn(first_names.values(), share, seed) if names is None else names
    if missing := [name for name in chosen if name not in files]:
        raise InputError(
            f"{len(missing)} of {len(chosen)} images that training held out are missing, such as {missing[0]}: use "
            f"the same data, or draw other images with --data.held_out none"
        )
    held = {place for name in chosen for place in places[files[name]]}
    every = sorted(place for group in places.values() for place in group)
    return [place for place in every if place not in held], sorted(held)


def image_names(samples: SampleDataset, root: Path) -> tuple[str, ...]:
    """The names of the samples' images relative to the root, without duplicates."""
    return tuple(sorted({_name(samples.path(index), root) for index in range(len(samples))}))


def describe_overlap(training: Sequence[SampleDataset], validation: Sequence[SampleDataset]) -> str | None:
    """Describe how many validation images are also training images, even under other paths; None if none are.

    Args:
        training: the parts of the training split
        validation: the parts of the validation split
    """
    known, held = _images(training), _images(validation)
    shared = [path for image, path in held.items() if image in known]
    if not shared:
        return None
    return (
        f"{len(shared)} of {len(held)} validation images are also training images (the first: {shared[0]}): scores on "
        "them say little about new images"
    )


def warn_of_overlap(splits: Mapping[str, SampleDataset]) -> None:
    """Log the overlap of the splits named training and validation, if both exist."""
    training, validation = ([splits[name]] if name in splits else [] for name in ("training", "validation"))
    if (line := describe_overlap(training, validation)) is not None:
        logger.warning("%s", line)


def _drawn(names: Collection[str], share: float, seed: int) -> list[str]:
    drawn = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    return drawn[: min(max(round(share * len(drawn)), 1), len(drawn) - 1)]


def _name(path: str, root: Path) -> str:
    # Links are not resolved: a data set made of links has its own names.
    whole, folder = (Path(os.path.normpath(each.absolute())) for each in (Path(path), root))
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else whole.as_posix()


def _images(parts: Sequence[SampleDataset]) -> dict[str, str]:
    """The images of a split: path with folder links resolved -> path as given."""
    resolved = cache(os.path.realpath)
    paths = [samples.path(index) for samples in parts for index in range(len(samples))]
    return {os.path.join(resolved(os.path.dirname(path)), os.path.basename(path)): path for path in paths}  # noqa: PTH118, PTH119, PTH120
