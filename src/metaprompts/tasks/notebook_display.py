"""Predictions as images in notebooks."""

import io

from PIL import Image


class NotebookDisplay:
    """Shows a prediction at the end of a notebook cell, as ``show`` draws it."""

    def show(self) -> Image.Image:
        """An image of the prediction."""
        raise NotImplementedError

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.show().save(file, format="PNG")
        return file.getvalue()
