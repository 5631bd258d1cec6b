"""Make sure that each split shows at least one person, which readers of pose data require."""

from dataclasses import replace
from itertools import chain

from metaprompts.errors import InputError
from metaprompts.synthetic import generate_scene
from metaprompts.synthetic.layouts.base import Place
from metaprompts.synthetic.layouts.plan import Plan

# About a third of the scenes show a person, at typical image sizes.
_FURTHER_SEEDS = 30


def peopled(plan: Plan) -> dict[Place, Place]:
    """Find the splits whose scenes show no person, and for each a replacement scene with a person.

    The same plan always gives the same scenes.

    Args:
        plan: plan of a layout with people

    Returns:
        a split's last place -> the same place with a different seed; empty if every split shows a person

    Raises:
        InputError: no person is visible, even in many additional scenes
    """
    others = {}
    for split in dict.fromkeys(place.split for place in plan.places):
        places = [place for place in plan.places if place.split == split]
        further = [replace(places[-1], seed=places[-1].seed + step) for step in range(1, _FURTHER_SEEDS + 1)]
        found = next((place for place in chain(places, further) if _shows_people(place, plan)), None)
        if found is None:
            raise InputError(
                f"no person is visible in any of the {split} scenes, nor in {_FURTHER_SEEDS} more, of {plan.height} x "
                f"{plan.width} pixels: give more scenes (count), a different seed, or larger images"
            )
        if found not in places:
            others[places[-1]] = found
    return others


def _shows_people(place: Place, plan: Plan) -> bool:
    scene = generate_scene(place.seed, plan.height, plan.width, plan.layout.kind)
    return any(person.keypoints[:, 2].any() for person in scene.people)
