"""Skip unreadable samples instead of stopping a long run."""

import logging
from collections.abc import Iterable

import torch

from metaprompts.data.datasets.views import View
from metaprompts.data.sample import Sample, SampleDataset
from metaprompts.errors import InputError

logger = logging.getLogger(__name__)


class SkipBadSamples(View):
    """A data set that replaces each unreadable sample with the next good one.

    The replacement does not depend on order or workers. Each bad sample is logged once per reader process.

    Args:
        samples: the data set to read
        at_most: maximum number of bad samples
    """

    def __init__(self, samples: SampleDataset, at_most: int) -> None:
        super().__init__(samples)
        self._at_most = at_most
        # Shared memory, in which each worker marks bad samples, so that no sample is counted twice.
        self._is_bad = torch.zeros(len(samples), dtype=torch.uint8)
        self._is_bad.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def bad(self) -> list[int]:
        """The indices of bad samples found by this process or its workers."""
        places: list[int] = self._is_bad.nonzero().flatten().tolist()
        return places

    def note(self, places: Iterable[int]) -> None:
        """Mark bad samples found by other processes or before the run was stopped."""
        self._is_bad[list(places)] = 1

    def __getitem__(self, index: int) -> Sample:
        """Read a sample, or the next good one.

        Raises:
            InputError: too many samples are invalid
        """
        place = range(len(self))[index]
        while True:
            try:
                return self.samples[place]
            except InputError as error:
                self._pass_over(place, error)
            place = (place + 1) % len(self)

    def _pass_over(self, place: int, error: InputError) -> None:
        if not self._is_bad[place]:
            self._is_bad[place] = 1
            logger.warning("skipping a bad sample: %s", error)
        if (skipped := len(self.bad)) > min(self._at_most, len(self) - 1):
            raise InputError(
                f"{skipped} of {len(self)} training samples cannot be read, but data.max_bad_samples is "
                f"{self._at_most}; the last: {error}"
            ) from error
