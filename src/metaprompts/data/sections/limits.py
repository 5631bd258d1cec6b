"""What augment sections refuse, in words that name the key."""

from metaprompts.errors import InputError


def refuse_no_probability(**values: float) -> None:
    """Check that keys of the augment section are probabilities.

    Raises:
        InputError: one is not within 0 to 1
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise InputError(f"augment.{name} is {value}; wanted a probability, 0 to 1")


def refuse_no_factors(**values: tuple[float, float]) -> None:
    """Check that keys of the augment section are a lowest and a highest factor.

    Raises:
        InputError: one is not above 0, or the first is above the second
    """
    for name, (lowest, highest) in values.items():
        if not 0 < lowest <= highest:
            raise InputError(f"augment.{name} is {lowest},{highest}; wanted LOWEST,HIGHEST with 0 < lowest <= highest")


def refuse_no_crop(crop: tuple[int, int]) -> None:
    """Check that ``augment.crop`` has pixels.

    Raises:
        InputError: a side is too short
    """
    if min(crop) < 1:
        raise InputError(f"augment.crop is {crop[0]},{crop[1]}; wanted HEIGHT,WIDTH of at least 1")
