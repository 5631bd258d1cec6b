"""Token merging in the self-attentions of the UNet's finest level (Bolya and Hoffman, 2023), an approximation.

A 64x64 latent has 4096 tokens at that level, many of them nearly equal. One token of each 2x2 block is a destination.
The other tokens that are most similar to a destination are averaged into it, attention runs on the remaining tokens,
and all tokens averaged together get the same result. Unlike the paper's code for Stable Diffusion, attention weights a
merged token by the number of its tokens (as in ToMe, Bolya et al., 2023), so that merging equal tokens loses nothing;
and destinations are not random.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from metaprompts.errors import InputError
from metaprompts.modules.backbone import PyramidUNet

# The fraction of tokens that are not destinations: three of each 2x2 block.
LARGEST_SHARE = 0.75
# The share is in thousandths, so that the number of merged tokens is an integer in a graph for any size.
_PARTS = 1_000


def merge_tokens(unet: PyramidUNet, share: float) -> None:
    """Replace the self-attentions of a UNet's finest level with layers that merge tokens.

    Args:
        unet: changed in place; its cross-attentions must be `KeyedCrossAttention`
        share: fraction of tokens to merge into others; 0 changes nothing

    Raises:
        InputError: the fraction is invalid, or the level has no self-attention
    """
    if not 0 <= share <= LARGEST_SHARE:
        raise InputError(f"the fraction of tokens to merge is {share}; expected 0 to {LARGEST_SHARE}")
    if share == 0:
        return
    found = 0
    for level in (unet.down_blocks[0], unet.up_blocks[-1]):
        for place, layer in enumerate(getattr(level, "attentions", ())):
            for block in layer.transformer_blocks:
                if block.only_cross_attention:
                    raise InputError(
                        "the UNet's finest level has no self-attention, so no tokens can be merged: leave the fraction "
                        "at 0"
                    )
                block.attn1 = MergedSelfAttention(block.attn1, share)
            level.attentions[place] = WithMapSize(layer)
            found += 1
    if not found:
        raise InputError(
            "the UNet's finest level has no attention, so no tokens can be merged: leave the fraction at 0"
        )


class WithMapSize(nn.Module):
    """A stack of transformer blocks that passes the map's height and width to its attentions.

    Args:
        layer: the original layer, whose attentions take ``size``
    """

    def __init__(self, layer: Transformer2DModel) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, return_dict: bool) -> tuple[Tensor, ...]:
        """Transform a map (B, C, h, w), conditioned on prompts."""
        conditioning = {"size": (hidden_states.shape[-2], hidden_states.shape[-1])}
        return self.layer(  # type: ignore[no-any-return]
            hidden_states,
            encoder_hidden_states=encoder_hidden_states,
            cross_attention_kwargs=conditioning,
            return_dict=return_dict,
        )


class MergedSelfAttention(nn.Module):
    """Self-attention over fewer tokens.

    Args:
        layer: the original layer, whose weights are shared
        share: fraction of tokens to merge into others
    """

    def __init__(self, layer: Attention, share: float) -> None:
        super().__init__()
        self.heads: int = layer.heads
        self.to_query, self.to_key, self.to_value = layer.to_q, layer.to_k, layer.to_v
        self.to_out = layer.to_out[0]
        self.parts = round(share * _PARTS)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: None = None,
        attention_mask: None = None,
        *,
        size: tuple[int, int],
    ) -> Tensor:
        """Self-attention over the (merged) tokens.

        Args:
            hidden_states: (B, h w, C)
            encoder_hidden_states: None
            attention_mask: None
            size: (h, w)

        Returns:
            (B, h w, C)
        """
        del encoder_hidden_states, attention_mask
        if self.parts == 0:
            return self._attend(hidden_states, None)
        merging = Merging.of(hidden_states, size, size[0] * size[1] * self.parts // _PARTS)
        return merging.undone(self._attend(merging.tokens, merging.counts.log()[:, None, None, :]))

    def _attend(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """Tokens (B, n, C) -> (B, n, C); the bias (B, 1, 1, n) is added to the scores of keys."""
        batch, count, channels = tokens.shape
        query, key, value = (
            layer(tokens).view(batch, count, self.heads, -1).transpose(1, 2)
            for layer in (self.to_query, self.to_key, self.to_value)
        )
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.to_out(seen.transpose(1, 2).reshape(batch, count, channels))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Merging:
    """Tokens of a map, some merged into others.

    Attributes:
        tokens: (B, n, C), the remaining tokens: first those that are not destinations, then the destinations
        counts: (B, n), number of original tokens in each remaining token
        places: (B, h w), index of the remaining token for each token of the map
    """

    tokens: Tensor
    counts: Tensor
    places: Tensor

    @classmethod
    def of(cls, tokens: Tensor, size: tuple[int, int], count: int) -> "Merging":
        """Merge the tokens with the highest cosine similarity to their most similar destination.

        Args:
            tokens: (B, h w, C)
            size: (h, w)
            count: number of tokens to merge, at most the number of tokens that are not destinations
        """
        at_destinations, at_others = split_places(size, tokens.device)
        destinations, others = tokens[:, at_destinations], tokens[:, at_others]
        likeness = F.normalize(others, dim=-1) @ F.normalize(destinations, dim=-1).transpose(1, 2)
        best, nearest = likeness.max(dim=-1)
        order = best.sort(dim=-1, descending=True).indices
        merged, kept = order[:, :count], order[:, count:]
        into = nearest.gather(1, merged)

        ones = torch.ones_like(best)
        counts = torch.ones_like(destinations[..., 0]).scatter_add(1, into, ones.gather(1, merged))
        sums = destinations.scatter_add(1, _each(into, tokens), others.gather(1, _each(merged, tokens)))
        left = torch.cat([others.gather(1, _each(kept, tokens)), sums / counts[..., None]], dim=1)

        first = kept.shape[1]
        new_of_kept = torch.arange(first, device=tokens.device).expand_as(kept)
        new_of_others = torch.zeros_like(order).scatter(1, order, torch.cat([into + first, new_of_kept], dim=1))
        new_of_destinations = torch.arange(destinations.shape[1], device=tokens.device).expand_as(counts) + first
        # The inverse of the positions, in the map, of the other tokens and the destinations.
        back = torch.cat([at_others, at_destinations]).sort().indices
        places = torch.cat([new_of_others, new_of_destinations], dim=1)[:, back]
        return cls(left, torch.cat([ones.gather(1, kept), counts], dim=1), places)

    def undone(self, tokens: Tensor) -> Tensor:
        """Expand results of remaining tokens to all tokens of the map: (B, n, C) -> (B, h w, C)."""
        return tokens.gather(1, _each(self.places, tokens))


def split_places(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions, in the sequence of tokens, of destinations (the first token of each 2x2 block) and of all others.

    The partial blocks at the border of a map with odd height or width have a destination, too.

    Args:
        size: (h, w)
        device: device of the result

    Returns:
        (ceil(h / 2) ceil(w / 2)) and (all others)
    """
    places = torch.arange(size[0] * size[1], device=device).view(*size)
    others = [places[::2, 1::2], places[1::2, ::2], places[1::2, 1::2]]
    return places[::2, ::2].flatten(), torch.cat([each.flatten() for each in others])


def _each(places: Tensor, tokens: Tensor) -> Tensor:
    """Positions (B, n) as an index (B, n, C) into all channels of tokens (B, m, C)."""
    return places[..., None].expand(-1, -1, tokens.shape[-1])
