"""A backbone's own text encoder, which encodes captions and names as the tokens that its UNet expects."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from metaprompts.embedded import BACKBONE, embedded_folder
from metaprompts.errors import InputError, one_line
from metaprompts.modules.backbone.loading import HASHED, RANDOM, check_sizes
from metaprompts.modules.backbone.weight_files import (
    TRANSFORMERS_STAGES,
    check_complete,
    download,
    has_any,
    load_from_transformers,
)
from metaprompts.utils.batches import batched
from metaprompts.utils.files import is_file, read_json
from metaprompts.utils.fingerprint import named_tensors, tensors_fingerprint

TEXT_SOURCE = "prompts.text_source (of predict and heatmaps: --text-source)"
"""The setting that names the source, in errors."""

_TOKENIZER, _ENCODER = "tokenizer", "text_encoder"
_TOKENIZER_FILES = ("vocab.json", "tokenizer.json")
_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("vocab_size", "max_position_embeddings", "projection_dim"),
)
# The tokens of this text identify a tokenizer: letters, numbers, punctuation, and a word outside every vocabulary.
_PROBE = "A photo of 2 traffic lights, quirky jinxed zebras & a fjord's bowl; naïve! xylqwv"
_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A tokenizer and its CLIP text model, in float32.

    Attributes:
        source: hub id or folder of tokenizer and model
        tokenizer: text -> token ids
        network: token ids -> encoded tokens
    """

    source: str
    tokenizer: CLIPTokenizer
    network: CLIPTextModel

    @property
    def length(self) -> int:
        """L: the number of tokens in a caption, including padding (Stable Diffusion: 77)."""
        return min(self.tokenizer.model_max_length, self.network.config.max_position_embeddings)

    @property
    def width(self) -> int:
        """D."""
        return int(self.network.config.hidden_size)

    @torch.no_grad()
    def captions(self, texts: Sequence[str]) -> Tensor:
        """Every token of every caption, padded or truncated to L: the context of Stable Diffusion's UNet.

        The tokens are the last hidden state after the final layer norm; padding is not masked.

        Args:
            texts: n captions

        Returns:
            (n, L, D) float32, on the network's device
        """
        parts = [self._run(part, "max_length").last_hidden_state for part in batched(texts, _AT_ONCE)]
        return torch.cat(parts) if parts else torch.empty(0, self.length, self.width)

    @torch.no_grad()
    def sentences(self, texts: Sequence[str]) -> Tensor:
        """One token per text: the hidden state at its end, after the final layer norm (CLIP's pooled output).

        Attention is causal, so padding changes nothing.

        Args:
            texts: n texts

        Returns:
            (n, D) float32, on the network's device
        """
        parts = [self._run(part, "longest").pooler_output for part in batched(texts, _AT_ONCE)]
        return torch.cat(parts) if parts else torch.empty(0, self.width)

    def _run(self, texts: Sequence[str], padding: str) -> Any:
        read = self.tokenizer(
            list(texts), padding=padding, max_length=self.length, truncation=True, return_tensors="pt"
        )
        return self.network(input_ids=read["input_ids"].to(self.network.device))

    def fingerprint(self) -> str:
        """A fingerprint of the weights and of the tokenizer's output."""
        # Whether the names begin with text_model depends on the version of transformers.
        tensors = named_tensors("text_encoder", getattr(self.network, "text_model", self.network))
        numbers = self.tokenizer([_PROBE], padding="max_length", max_length=self.length, truncation=True)["input_ids"]
        return tensors_fingerprint(tensors, ends=HASHED, more=repr(numbers))


def load_text_encoder(source: str) -> TextEncoder:
    """Load the text encoder of a backbone, in float32 on the CPU.

    Args:
        source: one of

            - "micro": the text encoder of the miniature Stable Diffusion inside this package
            - a diffusers folder with tokenizer/ and text_encoder/
            - a hub id, for example "stable-diffusion-v1-5/stable-diffusion-v1-5"; cached files need no network

    Raises:
        InputError: there is no text encoder, or its files are damaged
    """
    path = Path(source).expanduser()
    if source.startswith(RANDOM):
        raise InputError(f"{source} has random weights and no text encoder: set {TEXT_SOURCE} to a trained model")
    if source == BACKBONE and not path.exists():
        path = embedded_folder(BACKBONE)
    if is_file(path):
        raise InputError(
            f"a text encoder cannot be read from a single file, {source}: set {TEXT_SOURCE} to the diffusers folder or "
            "hub id of the same model"
        )
    if not path.is_dir():
        if path.is_absolute() or source.count("/") != 1:
            raise InputError(
                f"no text encoder at {source}: set {TEXT_SOURCE} to a hub id (owner/name), a diffusers folder, "
                f"or {BACKBONE}"
            )
        path = download(source, [f"{_ENCODER}/"], TRANSFORMERS_STAGES, [f"{_TOKENIZER}/*"])
    return _load_folder(path, source)


def _load_folder(folder: Path, source: str) -> TextEncoder:
    config = folder / _ENCODER / "config.json"
    if not config.is_file() or not has_any(folder / _TOKENIZER, _TOKENIZER_FILES):
        raise InputError(
            f"{folder} has no text encoder: expected {_TOKENIZER}/ with one of {', '.join(_TOKENIZER_FILES)}, and "
            f"{_ENCODER}/ with config.json and weights"
        )
    what = f"the text encoder in {folder}"
    network, missing = load_from_transformers(CLIPTextModel, folder / _ENCODER, what, lambda: _without_weights(config))
    check_complete(missing, what)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / _TOKENIZER, local_files_only=True)
    except Exception as error:  # transformers raises the errors of its parsers
        raise InputError(f"{what} cannot be loaded: {one_line(error)}") from error
    return TextEncoder(source, tokenizer, network)


def _without_weights(path: Path) -> CLIPTextModel:
    config: Any = read_json(path)
    check_sizes({key: config[key] for key in _SIZES if key in config}, "config.json")
    return CLIPTextModel(CLIPTextConfig.from_dict(config))
