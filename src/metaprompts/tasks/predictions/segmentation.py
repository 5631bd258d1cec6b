"""Predicted classes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.io.large_png import write_png
from metaprompts.errors import InputError
from metaprompts.tasks.predictions.base import NotebookDisplay, check_size, stacked, write_framed, write_raw
from metaprompts.utils.batches import row_bands
from metaprompts.utils.files import write_json
from metaprompts.visualize.legends import legend_text_px
from metaprompts.visualize.segmentation import class_colors, class_entries, class_legend, overlay_bands, overlay_labels


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentationPrediction(NotebookDisplay):
    """The class of every pixel of one image.

    Attributes:
        labels: (H,W) uint8 or uint16, index into ``classes``
        classes: names
        image: (H,W,3) uint8 RGB, the input image
        confidence: (H,W) float32 in 0..1, probability of the label; None if not kept
        agreement: see `DepthPrediction`
    """

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    classes: tuple[str, ...]
    image: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None = None
    agreement: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        check_size("labels", self.labels, self.image)
        if self.labels.dtype not in (np.uint8, np.uint16):
            raise InputError(f"labels are {self.labels.dtype}; expected uint8 or uint16 class indices")
        if self.confidence is not None:
            check_size("confidence", self.confidence, self.image)

    def shares(self) -> dict[str, float]:
        """The fraction of the image that each class covers, 0..1; classes that do not occur are omitted."""
        return {self.classes[index]: share for index, share in self._present().items()}

    def show(self, *, legend: bool = True) -> Image.Image:
        """The image tinted by class, with the names of the classes in it below unless ``legend`` is off."""
        drawn = overlay_labels(self.image, self.labels, class_colors(self.classes))
        return stacked(drawn, self._legend(self._present()) if legend else None)

    def save(self, folder: Path, stem: str, *, raw: bool = False, legend: bool = True) -> list[Path]:
        """Write the labels, the tinted image and the names.

        Args:
            folder: output folder; created if missing
            stem: prefix of the file names
            raw: also write the confidence, if it was kept, as float32, ``STEM_confidence.npy``
            legend: add the classes that occur, with their colors and shares, below the tinted image

        Returns:
            the files: ``STEM_labels.png``, whose pixels are class indices (shown in color by its palette; 16-bit gray
            for more than 256 classes); ``STEM_overlay.png``, at the image's resolution; ``STEM_classes.json``,
            {index: {name, share, color}} of all classes, color as "#rrggbb"

        Raises:
            InputError: the folder cannot be written
        """
        present, colors = self._present(), class_colors(self.classes)
        paths = [
            self._write_labels(folder / f"{stem}_labels.png"),
            write_framed(
                folder / f"{stem}_overlay.png",
                self.labels.shape,
                (band for _, band in overlay_bands(self.image, self.labels, colors)),
                self._legend(present) if legend else None,
            ),
            folder / f"{stem}_classes.json",
        ]
        shares = [present.get(index, 0.0) for index in range(len(self.classes))]
        write_json(paths[-1], class_entries(self.classes, shares))
        return paths + (write_raw(folder, stem, confidence=self.confidence, agreement=self.agreement) if raw else [])

    def _legend(self, present: dict[int, float]) -> NDArray[np.uint8] | None:
        if not present:
            return None
        largest_first = sorted(present, key=lambda index: (-present[index], index))
        return class_legend(
            [self.classes[index] for index in largest_first],
            class_colors(self.classes)[largest_first],
            self.labels.shape[1],
            numbers=largest_first,
            shares=[present[index] for index in largest_first],
            size_px=legend_text_px(*self.labels.shape),
        )

    def _present(self) -> dict[int, float]:
        counts = np.zeros(len(self.classes), np.int64)
        for rows in row_bands(*self.labels.shape):
            counts += np.bincount(self.labels[rows].reshape(-1), minlength=len(counts))[: len(counts)]
        return {int(index): float(counts[index] / self.labels.size) for index in np.flatnonzero(counts)}

    def _write_labels(self, path: Path) -> Path:
        if len(self.classes) > 256:
            return write_png(path, self.labels.shape, [self.labels.astype(np.uint16, copy=False)])
        # All 256 entries: with fewer, Pillow writes fewer bits per pixel, and 255 for "no class" would not survive.
        colors = class_colors(self.classes).tobytes().ljust(3 * 256, b"\0")
        return write_png(path, self.labels.shape, [self.labels.astype(np.uint8, copy=False)], palette=colors)
