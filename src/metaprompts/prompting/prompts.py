"""Meta prompts: learned embeddings in the place of text (paper section 3.2.1)."""

import torch
from torch import Tensor, nn


class MetaPrompts(nn.Module):
    """N learned prompts, one set for all steps or one set a step.

    Args:
        count: N
        channels: D, the UNet's cross-attention size
        steps: K
        per_step: a set of its own for each step (released depth model), or one shared (released segmentation model)
        adapter: whether each set goes through an MLP of its own (released depth model; no residual)
    """

    def __init__(self, count: int, channels: int, *, steps: int, per_step: bool, adapter: bool) -> None:
        super().__init__()
        sets = steps if per_step else 1
        self.steps = steps
        self.sets = nn.ParameterList(torch.randn(count, channels) for _ in range(sets))
        self.adapters = nn.ModuleList(_adapter(channels) for _ in range(sets)) if adapter else None

    def forward(self, batch: int) -> list[Tensor]:
        """The prompts of each step.

        Args:
            batch: B

        Returns:
            K tensors (B, N, D); the same one K times where the set is shared
        """
        prompts = [values if self.adapters is None else self.adapters[i](values) for i, values in enumerate(self.sets)]
        expanded = [values.expand(batch, -1, -1) for values in prompts]
        return expanded if len(expanded) == self.steps else expanded * self.steps


def _adapter(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels))
