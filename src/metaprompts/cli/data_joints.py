"""Report on joints in ``metaprompts data check``."""

from collections.abc import Iterator

from metaprompts.data.joints import mirror_pairs
from metaprompts.errors import InputError
from metaprompts.recipes.recipe import Recipe
from metaprompts.tasks import Pose
from metaprompts.tasks.pose import OTHER_SIGMA


def joint_lines(recipe: Recipe) -> Iterator[str]:
    """Lines on how joint names are interpreted; none for other tasks, or if `joint_faults` reports problems."""
    task = recipe.task
    if not isinstance(task, Pose) or joint_faults(recipe):
        return
    try:
        pairs = mirror_pairs(task.joints, task.flip_pairs)
    except InputError:
        # Images are not mirrored.
        pairs = ()
    named = ", ".join(f"{task.joints[left]}/{task.joints[right]}" for left, right in pairs) or "none"
    alone = [joint for index, joint in enumerate(task.joints) if all(index not in pair for pair in pairs)]
    yield f"{'joints':<14} change places in mirror images: {named}; stay: {', '.join(alone) or 'none'}"
    if unknown := task.without_sigma():
        yield f"{'joints':<14} OKS sigma {OTHER_SIGMA:g} is taken for {', '.join(unknown)}; task.sigmas gives others"


def joint_faults(recipe: Recipe) -> list[str]:
    """Reasons why images cannot be mirrored or cropped to half bodies as the recipe requires; none for other tasks."""
    task = recipe.task
    if not isinstance(task, Pose):
        return []
    try:
        crop = (task.crop_height, task.crop_width)
        named = {"flip_pairs": task.flip_pairs, "lower_body": task.lower_body}
        recipe.augment.transforms(crop, task.joints, task.padding, **named)
        if recipe.test.flip:
            mirror_pairs(task.joints, task.flip_pairs)
    except InputError as error:
        return [str(error)]
    return []
