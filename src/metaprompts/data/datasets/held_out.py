"""A share of the training images, held out for validation."""

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from metaprompts.data.datasets.keypoints import People
from metaprompts.data.datasets.label_histogram import label_values
from metaprompts.data.io.label_tables import LabelValue
from metaprompts.data.sample import Person, Sample, SampleDataset
from metaprompts.errors import InputError


class Subset(SampleDataset):
    """Some samples of a data set, in their order.

    Args:
        samples: the data set
        places: of those that are taken
    """

    def __init__(self, samples: SampleDataset, places: Sequence[int]) -> None:
        self.samples, self.places = samples, tuple(places)

    def __len__(self) -> int:
        """Return the number of samples taken."""
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            IndexError: no such sample
            InputError: a file is bad
        """
        return self.samples[self.places[index]]

    def path(self, index: int) -> str:
        """The path of a sample's image."""
        return self.samples.path(self.places[index])

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of a sample."""
        return self.samples.files(self.places[index])

    def label_values(self, index: int) -> list[LabelValue]:
        """The values of a sample's mask; see `label_histogram.label_values`."""
        return label_values(self.samples, self.places[index])


class SubsetOfPeople(Subset, People):
    """Some persons of an annotation file."""

    def __init__(self, samples: People, places: Sequence[int]) -> None:
        super().__init__(samples, places)
        self.annotation_path = samples.annotation_path
        self.joint_names, self.skeleton = samples.joint_names, samples.skeleton

    def by_image(self) -> list[list[int]]:
        """The samples of each image, images and samples in the samples' order."""
        groups: dict[str, list[int]] = {}
        for index in range(len(self)):
            groups.setdefault(self.path(index), []).append(index)
        return list(groups.values())

    def person(self, index: int) -> Person:
        """The person of a sample, without loading its image where possible."""
        return person_of(self.samples, self.places[index])


def person_of(samples: SampleDataset, index: int) -> Person:
    """The person of a sample of people, without loading its image where possible."""
    read = getattr(samples, "person", None)
    person: Person | None = samples[index].person if read is None else read(index)
    assert person is not None, "samples of people have a person each"
    return person


def image_ids(people: People) -> frozenset[int]:
    """The ids of the images that persons are in."""
    return frozenset(person_of(people, index).image_id for index in range(len(people)))


def subset(samples: SampleDataset, places: Sequence[int]) -> Subset:
    """Some samples of a data set, people where it has people."""
    return SubsetOfPeople(samples, places) if isinstance(samples, People) else Subset(samples, places)


def hold_out(
    paths: Iterable[str], share: float, seed: int, root: Path, names: Sequence[str] | None = None
) -> tuple[list[int], list[int]]:
    """Split samples into those to train on and those to validate on, whole images at a time.

    Which images are held out follows from the seed and their names below ``root`` alone, so neither their order nor
    where the data set lies matters.

    Args:
        paths: of each sample's image
        share: of the images that are held out; at least one is, and at least one is not
        seed: another one holds out others
        root: of the data set
        names: of the images that are held out, below ``root``, where they have been drawn before; None to draw them

    Returns:
        places to train on, places to validate on, both ascending

    Raises:
        InputError: there is only one image, or images that have been drawn before are not there
    """
    # An image may be spelled in several ways, or be reached by links, but must not be in both parts.
    places: dict[str, list[int]] = {}
    files: dict[str, str] = {}
    for place, path in enumerate(paths):
        file = os.path.realpath(path)
        places.setdefault(file, []).append(place)
        files.setdefault(_name(path, root), file)
    if len(places) < 2:
        raise InputError(
            f"data.val {share:g} cannot hold out a share of {len(places)} training image: give more images, "
            "a list of validation images, or --data.val none"
        )
    first_names = {file: name for name, file in sorted(files.items(), reverse=True)}
    chosen = _drawn(first_names.values(), share, seed) if names is None else names
    if missing := [name for name in chosen if name not in files]:
        raise InputError(
            f"{len(missing)} of {len(chosen)} images that training held out are not there, such as {missing[0]}: give "
            "the same data, or draw others with --data.held_out none"
        )
    held = {place for name in chosen for place in places[files[name]]}
    every = sorted(place for group in places.values() for place in group)
    return [place for place in every if place not in held], sorted(held)


def image_names(samples: SampleDataset, root: Path) -> tuple[str, ...]:
    """The names of the images that samples are of, below the root, each once."""
    return tuple(sorted({_name(samples.path(index), root) for index in range(len(samples))}))


def _drawn(names: Collection[str], share: float, seed: int) -> list[str]:
    drawn = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    return drawn[: min(max(round(share * len(drawn)), 1), len(drawn) - 1)]


def _name(path: str, root: Path) -> str:
    # Links are not resolved: a data set of links has its own names.
    whole, folder = (Path(os.path.normpath(each.absolute())) for each in (Path(path), root))
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else whole.as_posix()
