"""Compare class names, and the classes of the data sets on which published checkpoints were trained."""

import re
from collections.abc import Sequence

from metaprompts.errors import InputError


def class_order(names: Sequence[str], known: Sequence[str], what: str) -> list[int] | None:
    """Map each class of a data set to a class of a task, by name.

    Ignores case, spaces, dashes and underscores.

    Args:
        names: the task's classes by index
        known: the data set's classes by index
        what: name of the data set, for the error

    Returns:
        the index in ``names`` of each class of the data set; None if both lists have the same order

    Raises:
        InputError: a name is in only one of the lists, or occurs twice
    """
    own, expected = plain_names(names), plain_names(known)
    if own == expected:
        return None
    missing = [known[place] for place, name in enumerate(expected) if name not in own]
    foreign = [names[place] for place, name in enumerate(own) if name not in expected]
    if missing or foreign or len(set(own)) != len(own):
        came = f"{foreign[0]!r}, which is not a class of {what}" if foreign else "a class twice"
        lacks = f", and lacks {missing[0]!r}" if missing else ""
        raise InputError(f"task.classes has {came}{lacks}: name the {len(known)} classes of {what}, in any order")
    return [own.index(name) for name in expected]


def check_distinct(classes: Sequence[str]) -> None:
    """Check that no two classes of a task have the same normalized name.

    Raises:
        InputError: two classes have the same name
    """
    places: dict[str, int] = {}
    for place, name in enumerate(plain_names(classes)):
        first = places.setdefault(name, place)
        if first != place:
            raise InputError(
                f"task.classes {first} and {place} are {classes[first]!r} and {classes[place]!r}, which are the same: "
                "give every class a distinct name"
            )


def describe_difference(names: Sequence[str], others: Sequence[str]) -> str:
    """The first difference between two lists of names: class 3 is 'car', not 'bus'."""
    if len(names) != len(others):
        return f"there are {len(names)}, not {len(others)}"
    place = next(place for place, pair in enumerate(zip(names, others, strict=True)) if pair[0] != pair[1])
    return f"class {place} is {names[place]!r}, not {others[place]!r}"


def plain_names(names: Sequence[str]) -> list[str]:
    """Normalize names: lower-case them, and replace runs of spaces, dashes and underscores with one space."""
    return [" ".join(re.split(r"[\s_-]+", name.strip().lower())) for name in names]


CITYSCAPES = tuple(
    (
        "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person, "
        "rider, car, truck, bus, train, motorcycle, bicycle"
    ).split(", ")
)

ADE20K = tuple(
    (
        "wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, "
        "door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, "
        "field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, "
        "signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, "
        "stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, "
        "coffee table, toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, "
        "swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, "
        "streetlight, booth, television receiver, airplane, dirt track, apparel, pole, land, bannister, escalator, "
        "ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, "
        "swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, "
        "trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, "
        "vase, traffic light, tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, "
        "glass, clock, flag"
    ).split(", ")
)
