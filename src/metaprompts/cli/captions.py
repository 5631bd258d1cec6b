"""Captions of images for ``metaprompts predict`` and ``heatmaps``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaprompts.errors import InputError

if TYPE_CHECKING:
    from metaprompts.models.model import MetaPromptModel

_OPTIONS = "--caption TEXT, --captions FILE or --captioner MODEL"


@dataclass(frozen=True)
class Captions:
    """Captions of images, for models that read them.

    Attributes:
        of: an image's path and pixels (H, W, 3) -> its caption; raises InputError if there is no caption
    """

    of: Callable[[Path, Any], str]

    @classmethod
    def for_models(
        cls,
        models: "Sequence[MetaPromptModel]",
        *,
        caption: str | None,
        file: Path | None,
        captioner: str | None,
        text_source: str | None,
    ) -> "Captions | None":
        """Create from a command's options; returns None if no model reads captions.

        Args:
            models: the models; those that read captions get their text encoder
            caption: caption for all images
            file: JSON of images and captions; image names are relative to the file's folder
            captioner: hub id or folder of a model that captions
            text_source: source of the text encoder; None for the source stored in the models

        Raises:
            InputError: a caption is missing, unexpected, or given more than once
        """
        readers = [model for model in models if model.config.prompts.kind == "caption"]
        given = [value for value in (caption, file, captioner) if value is not None]
        if not readers:
            if given or text_source is not None:
                kind = models[0].config.prompts.kind
                raise InputError(f"this model has {kind} prompts and reads no captions: leave out {_OPTIONS}")
            return None
        if len(given) != 1:
            came = "none" if not given else str(len(given))
            raise InputError(f"this model needs a caption for each image: expected one of {_OPTIONS}, got {came}")
        for model in readers:
            model.load_text_encoder(text_source)
        return cls(_source(caption, file, captioner, readers[0]))


def _source(
    caption: str | None, file: Path | None, captioner: str | None, model: "MetaPromptModel"
) -> Callable[[Path, Any], str]:
    from metaprompts.captioning.captioner import Captioner
    from metaprompts.data.io.caption_file import CaptionFile
    from metaprompts.utils.cache import cache_folder

    if file is not None:
        read = CaptionFile(file, file.parent)
        return lambda path, image: read.of(path)
    if captioner is not None:
        speaker = Captioner(captioner, cache_folder(), model.device)
        return lambda path, image: speaker.caption([image])[0]
    return lambda path, image: caption or ""
