"""Class weights of the loss, balanced by class frequencies in the training masks."""

from metaprompts.data.datasets.label_histogram import LabelHistogram

BALANCED = "balanced"
_DIGITS = 6
_NAMED_AT_MOST = 24


def balanced_weights(counted: LabelHistogram) -> list[float]:
    """Weights inversely proportional to the number of pixels of each class, 1 for the average pixel.

    pixels / (classes that occur * pixels of the class), as scikit-learn's "balanced"; 1 for classes that never occur.
    """
    pixels = [counted.pixels[index] for index in range(len(counted.classes))]
    present = sum(count > 0 for count in pixels)
    return [round(sum(pixels) / (present * count), _DIGITS) if count else 1.0 for count in pixels]


def describe_weights(counted: LabelHistogram, weights: list[float]) -> list[str]:
    """One line with the weights; if there are many classes, only the smallest and largest weights."""
    pairs = sorted(zip(weights, counted.classes, strict=True))
    chosen = pairs if len(pairs) <= _NAMED_AT_MOST else [*pairs[:3], *pairs[-3:]]
    named = ", ".join(f"{name} {weight:.3g}" for weight, name in chosen)
    shown = "" if len(chosen) == len(pairs) else f" (the three smallest and largest of {len(pairs)})"
    return [f"task.class_weights, balanced over {counted.read} training masks{shown}: {named}"]
