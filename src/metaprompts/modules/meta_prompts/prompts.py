"""Prompts: learned embeddings instead of text (paper section 3.2.1), and the two kinds of text prompts.

All three kinds have the same interface and return K tensors (B, N, D), so refinement and rearrangement do not depend on
the kind.
"""

import torch
from torch import Tensor, nn

from metaprompts.errors import InputError

LABEL_TOKENS = "prompts.tokens"
"""The name of the buffer with the labels' tokens."""

_SMALL = 1e-4


class MetaPrompts(nn.Module):
    """N learned prompts, one set for all steps or one set per step.

    Args:
        count: number of prompts, N
        channels: D, the UNet's cross-attention size
        steps: number of steps, K
        per_step: whether each step has its own set (released depth model), or all share one (released segmentation
            model)
        adapter: whether each set goes through its own MLP (released depth model; no residual)
    """

    def __init__(self, count: int, channels: int, *, steps: int, per_step: bool, adapter: bool) -> None:
        super().__init__()
        sets = steps if per_step else 1
        self.steps = steps
        self.sets = nn.ParameterList(torch.randn(count, channels) for _ in range(sets))
        self.adapters = nn.ModuleList(_adapter(channels) for _ in range(sets)) if adapter else None

    def forward(self, batch: int, context: Tensor | None = None) -> list[Tensor]:
        """The prompts of each step.

        Args:
            batch: batch size, B
            context: None; these prompts are the same for every image

        Returns:
            K tensors (B, N, D); the same tensor K times if the set is shared

        Raises:
            InputError: a context is given
        """
        _check_no_context(context, "meta")
        prompts = [values if self.adapters is None else self.adapters[i](values) for i, values in enumerate(self.sets)]
        expanded = [values.expand(batch, -1, -1) for values in prompts]
        return expanded if len(expanded) == self.steps else expanded * self.steps


class LabelPrompts(nn.Module):
    """One token for each of N names, made by a text encoder and never trained (VPD, Zhao et al., 2023).

    Random until the ``tokens`` (N, D) are copied or weights are loaded.

    Args:
        count: number of prompts, N
        channels: D, the UNet's cross-attention size
        steps: number of steps, K
        per_step: whether each step has its own adapter, or all share one
        adapter: whether tokens go through a `TextAdapter`
    """

    tokens: Tensor

    def __init__(self, count: int, channels: int, *, steps: int, per_step: bool, adapter: bool) -> None:
        super().__init__()
        self.register_buffer("tokens", torch.randn(count, channels))
        self.adapters = _StepAdapters(channels, steps=steps, per_step=per_step, adapter=adapter)

    def forward(self, batch: int, context: Tensor | None = None) -> list[Tensor]:
        """The prompts of each step; arguments and result as for `MetaPrompts.forward`."""
        _check_no_context(context, "label")
        return [prompts.expand(batch, -1, -1) for prompts in self.adapters(self.tokens)]


class CaptionPrompts(nn.Module):
    """The N tokens of each image's caption, made by a text encoder and never trained (TADP, Kondapaneni et al.).

    Args:
        count: N, the length to which captions are padded
        channels: D, the UNet's cross-attention size
        steps: number of steps, K
        per_step: whether each step has its own adapter, or all share one
        adapter: whether tokens go through a `TextAdapter`
    """

    def __init__(self, count: int, channels: int, *, steps: int, per_step: bool, adapter: bool) -> None:
        super().__init__()
        self.shape = (count, channels)
        self.adapters = _StepAdapters(channels, steps=steps, per_step=per_step, adapter=adapter)

    def forward(self, batch: int, context: Tensor | None = None) -> list[Tensor]:
        """The prompts of each step.

        Args:
            batch: batch size, B
            context: (B, N, D), the encoded captions of the images

        Returns:
            K tensors (B, N, D)

        Raises:
            InputError: no context is given, or it has the wrong shape
        """
        expected = (batch, *self.shape)
        if context is None or tuple(context.shape) != expected:
            came = "nothing" if context is None else "x".join(map(str, context.shape))
            raise InputError(
                f"this model needs a caption for each image, but its context is {came}; expected "
                f"{'x'.join(map(str, expected))}: pass captions to predict, or the output of encode_captions to the "
                "model"
            )
        return self.adapters(context)  # type: ignore[no-any-return]


class TextAdapter(nn.Module):
    """Tokens + factors * MLP(tokens); the learned factors start at 1e-4, so the result starts near the text (VPD).

    Args:
        channels: width of the tokens, D
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = _adapter(channels)
        self.factors = nn.Parameter(torch.full((channels,), _SMALL))

    def forward(self, tokens: Tensor) -> Tensor:
        """Adapt tokens (..., D)."""
        return tokens + self.factors * self.change(tokens)  # type: ignore[no-any-return]


class _StepAdapters(nn.Module):
    """The same text tokens for each of K steps, or the outputs of adapters."""

    def __init__(self, channels: int, *, steps: int, per_step: bool, adapter: bool) -> None:
        super().__init__()
        self.steps = steps
        count = (steps if per_step else 1) if adapter else 0
        self.of_steps = nn.ModuleList(TextAdapter(channels) for _ in range(count))

    def forward(self, tokens: Tensor) -> list[Tensor]:
        adapted = [adapt(tokens) for adapt in self.of_steps] or [tokens]
        return adapted if len(adapted) == self.steps else adapted * self.steps


def _adapter(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels))


def _check_no_context(context: Tensor | None, kind: str) -> None:
    if context is not None:
        raise InputError(f"this model has {kind} prompts and reads no captions, but got a context: omit it")
