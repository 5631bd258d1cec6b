"""Whether a generated image shows what its caption asks for, judged by a segmentation model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The nouns of captions, and the class that their pixels have.
NOUN_CLASSES: Mapping[str, str] = {
    "table": "table",
    "sofa": "sofa",
    "armchair": "sofa",
    "cabinet": "cabinet",
    "bookshelf": "cabinet",
    "bookshelves": "cabinet",
    "hanging lamp": "lamp",
    "street lamp": "pole",
    "lamp": "lamp",
    "ball": "ball",
    "person": "person",
    "people": "person",
    "tree": "tree",
    "fir": "tree",
    "hedge": "tree",
    "car": "car",
    "van": "car",
    "post": "pole",
    "sign": "sign",
    "room": "wall",
    "street": "road",
}

_NOUN = re.compile(r"\b(" + "|".join(sorted(NOUN_CLASSES, key=len, reverse=True)) + r")s?\b")


def asked_classes(caption: str) -> set[str]:
    """The classes that a caption of a generated scene asks for."""
    return {NOUN_CLASSES[noun] for noun in _NOUN.findall(caption)}


@dataclass(frozen=True, kw_only=True)
class Presence:
    """How often a class is found in generated images.

    Attributes:
        asked: number of captions that ask for it
        found_if_asked: share of those images that show it; NaN for none
        found_if_not: share of the other images that show it; NaN for none
    """

    asked: int
    found_if_asked: float
    found_if_not: float


def presence(
    captions: Sequence[str], labels: Sequence[NDArray[np.integer]], classes: Sequence[str], *, smallest_share: float
) -> dict[str, Presence]:
    """Compare what captions ask for with what a segmentation model finds.

    Args:
        captions: captions of n images
        labels: n arrays (H, W): places in ``classes``
        classes: names
        smallest_share: smallest share of an image's pixels that a class must cover to be there

    Returns:
        by class, those that a caption may ask for
    """
    wanted = [asked_classes(caption) for caption in captions]
    table = {}
    for name in sorted(set(NOUN_CLASSES.values()) & set(classes)):
        place = classes.index(name)
        found = np.array([(of_image == place).mean() >= smallest_share for of_image in labels])
        asked = np.array([name in of_image for of_image in wanted])
        table[name] = Presence(
            asked=int(asked.sum()), found_if_asked=_share(found[asked]), found_if_not=_share(found[~asked])
        )
    return table


def _share(found: NDArray[np.bool_]) -> float:
    return float(found.mean()) if len(found) else float("nan")
