"""Compute the memory that a prediction needs, and choose batch size and strips so that it fits.

The model runs on fake tensors; all live tensors are counted, plus the workspace of convolutions. The result is the
number of views per forward pass and, if a single view does not fit, the strips for encoding it: the encoder's first
maps are as large as the image and 128 channels wide, while those of the UNet and the head are an eighth of the image.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from metaprompts.errors import InputError
from metaprompts.modules.backbone import LatentEncoder
from metaprompts.utils.byte_size import shown_bytes
from metaprompts.utils.malloc import trim_malloc
from metaprompts.utils.memory_tracker import MemoryTracker
from metaprompts.utils.system import memory_bytes
from metaprompts.utils.torch_modules import eval_mode

if TYPE_CHECKING:
    from metaprompts.models.model import MetaPromptModel

_logger = logging.getLogger(__name__)

# Fraction of free memory, because other programs also need memory.
_SHARE = 0.8
# Python and the libraries, 0.51 GB, plus freed blocks that glibc keeps because they are smaller than its threshold.
_PROGRAM = 650 * 10**6
# A margin for allocator fragmentation, and for operations whose workspace is not counted. Measured on a CPU for a model
# of Stable Diffusion's size at 512x512: encoder 0.68 GB (0.68 computed without margin); UNet and UPerNet 0.445 GB
# (0.448 computed).
_MARGIN = 1.1
# Bytes for each pixel and channel: 24 maps in double precision.
_CEILING = 24 * 8
# Strips with fewer rows save little memory, because one map is always held whole, and take longer to count.
_STRIPS = (256, 128, 64, 32)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Batch size and strips within a memory limit.

    Attributes:
        batch: views per forward pass
        rows: height of the encoder's strips; None for whole images
        needed: bytes needed, including the weights and the program
    """

    batch: int
    rows: int | None
    needed: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """Bytes needed by a prediction in addition to the weights.

    Attributes:
        encoder: peak memory of the VAE's encoder
        rest: peak memory of all parts after the encoder
        copies: the part of ``encoder`` taken by weights in double precision, independent of the number of views
    """

    encoder: int
    rest: int
    copies: int

    @property
    def most(self) -> int:
        """Bytes at the peak."""
        return max(self.encoder, self.rest)

    @property
    def of_view(self) -> int:
        """Bytes per further view."""
        return max(self.encoder - self.copies, self.rest)


def choose(model: "MetaPromptModel", size: tuple[int, int], *, limit: int, most: int = 1, reserved: int = 0) -> Choice:
    """The largest batch that fits, or the tallest strips.

    A smaller batch is preferred to strips, which take 1.5 times the encoder's time.

    Args:
        model: the predicting model
        size: (height, width) of the views, in pixels
        limit: memory limit in bytes, including the weights and the program
        most: maximum number of views per forward pass
        reserved: bytes in use for the whole image

    Raises:
        InputError: not even a single view in the lowest strips fits
    """
    held = _PROGRAM + weight_bytes(model) + reserved
    ceiling = held + most * _ceiling_bytes(model, size)
    if ceiling <= limit:
        return Choice(batch=most, rows=None, needed=ceiling)
    work = view_work(model, size)
    needed = held + work.most
    if needed <= limit:
        batch = min(most, 1 + (limit - needed) // work.of_view)
        return Choice(batch=batch, rows=None, needed=needed + (batch - 1) * work.of_view)
    for rows in _STRIPS:
        needed = held + max(encoder_bytes(model, size, rows), work.rest)
        if needed <= limit:
            return Choice(batch=1, rows=rows, needed=needed)
    raise InputError(
        f"predicting {size[0]}x{size[1]} pixels at a time needs at least {_gigabytes(needed)}, but the limit is "
        f"{_gigabytes(limit)}: free memory, raise --max-memory, or use a smaller --window"
    )


def _ceiling_bytes(model: "MetaPromptModel", size: tuple[int, int]) -> int:
    """An upper bound on a view's memory without tracing the model, as if all layers were as wide as the widest.

    Small models pass this check immediately; for large models, the exact computation is worth a few seconds.
    """
    widths = [each.out_channels for each in model.modules() if isinstance(each, nn.Conv2d | nn.ConvTranspose2d)]
    height, width = model.task.resize_for_backbone(torch.empty(1, 3, *size, device="meta")).shape[-2:]
    return _CEILING * max(widths) * height * width


def view_work(model: "MetaPromptModel", size: tuple[int, int]) -> Work:
    """The memory for predicting a view that is encoded as a whole. Nothing is computed or allocated.

    Args:
        model: the predicting model
        size: (height, width) of the view, in pixels
    """
    encoder: list[tuple[int, int]] = []

    def leave_encoder(*_: object) -> None:
        encoder.append((sum(live.peak.values()), live.peak.get("copies", 0)))
        live.begin_again()

    hook = model.latent_encoder.register_forward_hook(leave_encoder)
    with hook, eval_mode(model), _counting(model, None, model.latent_encoder) as (live, tensors):
        functional_call(model, tensors, (_empty_view(model, size).clone(), _empty_context(model))).float()
    ((peak, copies),) = encoder
    return Work(encoder=_with_margin(peak), rest=_with_margin(sum(live.peak.values())), copies=_with_margin(copies))


def encoder_bytes(model: "MetaPromptModel", size: tuple[int, int], rows: int | None) -> int:
    """The memory for encoding a view in strips.

    Args:
        model: the predicting model
        size: (height, width) of the view, in pixels
        rows: height of the strips; None for whole images
    """
    with _counting(model.latent_encoder, rows, model.latent_encoder) as (live, tensors):
        images = model.task.resize_for_backbone(_empty_view(model, size))
        functional_call(model.latent_encoder, tensors, (images,))
    return _with_margin(sum(live.peak.values()))


def _empty_view(model: "MetaPromptModel", size: tuple[int, int]) -> Tensor:
    return torch.empty(1, 3, *size, dtype=model.dtype, device=model.device)


def _with_margin(size: int) -> int:
    return round(_MARGIN * size)


class Budget:
    """Chooses the batch size for views of a size, and sets the height of the encoder's strips.

    Args:
        model: the predicting model
        limit: memory limit in bytes; None if there is no limit
        most: maximum number of views per forward pass
        reserved: bytes in use all the time, for example for the weights of other models
    """

    def __init__(self, model: "MetaPromptModel", limit: int | None, most: int, reserved: int = 0) -> None:
        self._model, self._limit, self._most, self._reserved = model, limit, most, reserved
        self._known: dict[tuple[int, int, int], Choice] = {}

    def check_image(self, height: int, width: int) -> None:
        """Check that an image and its prediction fit in memory next to the weights.

        Raises:
            InputError: the image and its prediction do not fit in memory
        """
        needed = _PROGRAM + weight_bytes(self._model) + self._reserved + self._model.task.pixel_bytes * height * width
        if self._limit is not None and needed > self._limit:
            raise InputError(
                f"{height}x{width} pixels and their prediction need at least {_gigabytes(needed)}, but the limit is "
                f"{_gigabytes(self._limit)}: free memory, raise --max-memory, or make the image smaller"
            )

    def batch(self, size: tuple[int, int], reserved: int = 0) -> int:
        """The batch size for views of a size; also sets the encoder's strips.

        Args:
            size: (height, width) of the views, in pixels
            reserved: bytes in use for the whole image

        Raises:
            InputError: not even a single view fits
        """
        if self._limit is None:
            return self._most
        chosen = self._known.get((*size, reserved))
        if chosen is None:
            chosen = choose(self._model, size, limit=self._limit, most=self._most, reserved=self._reserved + reserved)
            _logger.info("%dx%d pixels at a time: %s", *size, chosen)
            self._known[(*size, reserved)] = chosen
        self._model.latent_encoder.rows = chosen.rows
        if chosen.rows is not None and self._model.device.type == "cpu":
            # glibc would not return the memory of freed strips, which would take up to half as much again.
            trim_malloc(self._model)
        return chosen.batch


def weight_bytes(*models: nn.Module) -> int:
    """Number of bytes in the parameters and buffers of models; shared tensors are counted once."""
    distinct = {each.data_ptr(): each.nbytes for model in models for each in _tensors(model).values()}
    return sum(distinct.values())


def automatic_limit(model: "MetaPromptModel") -> int | None:
    """Four fifths of the free memory on a model's device; None if unknown.

    Weights in memory count as free, because the limit includes them.
    """
    free: int | None = None
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
    elif model.device.type == "cpu":
        free = memory_bytes("MemAvailable")
    return None if free is None else weight_bytes(model) + round(_SHARE * free)


def check_limit(limit: int, model: "MetaPromptModel") -> None:
    """Check a memory limit that a user gave.

    Args:
        limit: bytes
        model: the model that predicts

    Raises:
        InputError: the model's device has less memory
    """
    cuda = model.device.type == "cuda"
    total = torch.cuda.mem_get_info(model.device)[1] if cuda else memory_bytes("MemTotal")
    if total is not None and limit > total:
        device = "the GPU" if cuda else "this machine"
        raise InputError(f"--max-memory is {shown_bytes(limit)}, but {device} has {shown_bytes(total)}: lower it")


def _convolution_work(operation: Any, arguments: Any, result: Any) -> int:
    """The workspace of a convolution in addition to its tensors, as measured on CPUs and assumed for GPUs.

    In single and half precision: reordered copies of the input, the weights and, for a transposed convolution, the
    result. In double precision: one map per kernel position.
    """
    if operation is not torch.ops.aten.convolution.default:
        return 0
    features, weight, transposed = arguments[0], arguments[1], arguments[6]
    if features.dtype != torch.float64:
        return int(features.nbytes + weight.nbytes + (result.nbytes if transposed else 0))
    places = weight.shape[2] * weight.shape[3]
    if places == 1:
        return 0
    # Images of a batch are processed one after the other.
    pixels = (features if transposed else result)[0, 0].numel()
    return int(places * weight.shape[1] * pixels * features.element_size())


@contextmanager
def _counting(
    module: nn.Module, rows: int | None, encoder: LatentEncoder
) -> Iterator[tuple[MemoryTracker, dict[str, Tensor]]]:
    """Yield a memory tracker; inside the block, the module's tensors are fake, and images are encoded in strips."""
    mode = FakeTensorMode()
    tensors: dict[str, Tensor] = {name: mode.from_tensor(each) for name, each in _tensors(module).items()}
    live = MemoryTracker(tensors.values(), _convolution_work)
    before = encoder.rows, encoder.cache
    encoder.rows, encoder.cache = rows, None
    try:
        with mode, torch.no_grad(), live:
            yield live, tensors
    finally:
        encoder.rows, encoder.cache = before


def _empty_context(model: "MetaPromptModel") -> Tensor | None:
    prompts = model.config.prompts
    if prompts.kind != "caption":
        return None
    return torch.empty(1, prompts.count, model.unet.prompt_channels, dtype=model.dtype, device=model.device)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
