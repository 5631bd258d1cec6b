"""Predictions as images in notebooks."""

import io

from PIL import Image


class NotebookDisplay:
    """Displays a prediction, drawn by ``show``, as the output of a notebook cell."""

    def show(self) -> Image.Image:
        """An image of the prediction."""
        raise NotImplementedError

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.show().save(file, format="PNG")
        return file.getvalue()
