"""Project the model's prompt maps back onto the image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metaprompts.data.transforms.affine import to_crop, udp_matrix
from metaprompts.tasks.preprocess import ModelInput
from metaprompts.visualize.heatmaps import most_distinct, normalize


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptHeatmap:
    """The response map of one prompt in an image.

    Attributes:
        prompt: number of the prompt, from 0
        map: (H,W) float32 of the image's size, 0 where the prompt responds least and 1 where it responds most
        seen: (H,W) bool, False outside the model's input (pose: outside all boxes), where ``map`` is 0
    """

    prompt: int
    map: NDArray[np.float32]
    seen: NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptMaps:
    """The rearranged maps of one image at the model's resolution.

    Attributes:
        size: (H, W) of the image
        views: the model's inputs: the image, or for pose one crop per box
        maps: (N, h, w) float32 on the CPU, for each view
    """

    size: tuple[int, int]
    views: tuple[ModelInput, ...]
    maps: tuple[Tensor, ...]

    def chosen(self, prompts: Sequence[int], top: int) -> list[int]:
        """The prompts to show: ``prompts``, or the ``top`` most distinct ones; none if there are no views."""
        if not self.maps:
            return []
        pixels = torch.cat([of_view.flatten(1) for of_view in self.maps], dim=1)
        return list(prompts) or most_distinct(pixels.numpy(), top)

    def heatmap(self, prompt: int) -> PromptHeatmap:
        """One prompt's map, enlarged to the image; overlapping crops use the largest value.

        Args:
            prompt: 0 to N - 1
        """
        values = torch.full(self.size, -torch.inf)
        for view, maps in zip(self.views, self.maps, strict=True):
            values = torch.maximum(values, on_image(maps[prompt], view, self.size))
        seen = ~torch.isneginf(values).numpy()
        return PromptHeatmap(prompt=prompt, map=normalize(values.numpy(), seen), seen=seen)


def on_image(values: Tensor, view: ModelInput, size: tuple[int, int]) -> Tensor:
    """Enlarge a map bilinearly to the image of its view.

    The map extends over the whole view, edge to edge, as the heads' outputs do; beyond the outermost pixel centers, the
    nearest value is used.

    Args:
        values: (h,w), over the whole view
        view: the resized image, or a crop of it
        size: (H, W) of the image

    Returns:
        (H,W); minus infinity outside the view
    """
    if view.center is None or view.size is None:
        return F.interpolate(values[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    crop_height, crop_width = view.image.shape[-2:]
    matrix = udp_matrix(view.center, view.size, 0.0, (crop_width, crop_height))
    # Upright crops: columns depend only on x and rows only on y.
    columns = to_crop(np.stack([np.arange(size[1]), np.zeros(size[1])], axis=1), matrix)[:, 0]
    rows = to_crop(np.stack([np.zeros(size[0]), np.arange(size[0])], axis=1), matrix)[:, 1]
    across = torch.from_numpy(2 * (columns + 0.5) / crop_width - 1)
    down = torch.from_numpy(2 * (rows + 0.5) / crop_height - 1)
    places = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)[None]
    read = F.grid_sample(values[None, None], places, mode="bilinear", padding_mode="border", align_corners=False)
    return read[0, 0].masked_fill((places[0].abs() > 1).any(dim=-1), -torch.inf)
