"""Captions of images for ``metaprompts predict`` and ``heatmaps``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaprompts.cli.options import given_options, option
from metaprompts.errors import InputError
from metaprompts.utils.wording import enumerated

if TYPE_CHECKING:
    from metaprompts.models.model import MetaPromptModel

_GROUP = "Models that read captions"
_OPTIONS = "--caption TEXT, --captions FILE or --captioner MODEL"

CaptionOf = Callable[[Path, Any], str]
"""An image's path and pixels (H, W, 3) -> its caption; raises InputError if there is none."""


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """Options of a command whose models may read captions."""

    caption: str | None = option(None, group=_GROUP)
    """Caption for all images, if the model reads captions."""
    captions: Path | None = option(None, metavar="FILE", group=_GROUP)
    """Instead of --caption: JSON of images and captions; image names are relative to the file's folder, or bare file
    names."""
    captioner: str | None = option(None, metavar="MODEL", group=_GROUP)
    """Instead of --caption: a captioning model, hub id or folder; for example Salesforce/blip2-opt-2.7b."""
    text_source: str | None = option(None, metavar="SOURCE", group=_GROUP)
    """Source of the text encoder; by default the source used in training."""

    def open_captions(self, models: "list[MetaPromptModel]") -> CaptionOf | None:
        """The captions of images; None if no model reads captions.

        Args:
            models: the models; those that read captions get their text encoder

        Raises:
            InputError: a caption is missing, unexpected, or given more than once
        """
        readers = [model for model in models if model.config.prompts.kind == "caption"]
        given = given_options(self, CaptionOptions)
        if not readers:
            if given:
                kind = models[0].config.prompts.kind
                raise InputError(f"this model has {kind} prompts and reads no captions: omit {enumerated([*given])}")
            return None
        if (count := len(given.keys() - {"--text-source"})) != 1:
            raise InputError(
                f"this model needs a caption for each image: expected one of {_OPTIONS}, got {count or 'none'}"
            )
        for model in readers:
            model.load_text_encoder(self.text_source)
        return self._source(readers[0])

    def _source(self, model: "MetaPromptModel") -> CaptionOf:
        from metaprompts.captioning.captioner import Captioner
        from metaprompts.data.io.caption_file import CaptionFile
        from metaprompts.utils.files import cache_folder

        if self.captions is not None:
            read = CaptionFile(self.captions, self.captions.parent)
            return lambda path, image: read.of(path)
        if self.captioner is not None:
            captioner = Captioner(self.captioner, cache_folder(), model.device)
            return lambda path, image: captioner.caption([image])[0]
        return lambda path, image: self.caption or ""
