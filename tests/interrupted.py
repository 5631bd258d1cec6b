"""A training that ends where it must not matter."""

from metaprompts.training.progress import Silence


class KilledError(Exception):
    pass


class KilledAt(Silence):
    """Ends the training after a step, wherever it is."""

    def __init__(self, step):
        self._last = step

    def step(self, step, losses, *, lr, pictures, seconds):
        if step == self._last:
            raise KilledError
