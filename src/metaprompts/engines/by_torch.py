"""PyTorch in eager mode, and PyTorch's own compiler."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from metaprompts.engines.optimized import PARTS, OptimizedModel
from metaprompts.modules.backbone import LatentEncoder
from metaprompts.utils.system import releasing_files
from metaprompts.utils.torch_modules import channels_last, sharing_weights

if TYPE_CHECKING:
    from torch._inductor.exc import InductorError

_logger = logging.getLogger(__name__)


class EagerParts:
    """A prepared model's own layers, in the fastest memory format for convolutions.

    Args:
        prepared: the prepared model, whose weights are shared with the model and reordered in place, or copied if the
            precision differs
        dtype: compute precision
        encoder: the model's own encoder, whose strip setting is used
    """

    def __init__(self, prepared: OptimizedModel, dtype: torch.dtype, encoder: LatentEncoder) -> None:
        self._prepared = sharing_weights(prepared, dtype)
        self._pixels = torch.contiguous_format
        # Each memory format rounds differently, so the choice must be the same in every run, not based on timing.
        # In single precision, channels last is not faster on a CPU, and makes PyTorch's group norms sum the encoder's
        # large maps less exactly: the latent's rounding error is 20 times as large, and the steps amplify it.
        if prepared.conditions.shifts.device.type != "cpu" or dtype != torch.float32:
            for part in (self._prepared.encode, self._prepared.unet_step, self._prepared.decode):
                channels_last(part)
            self._pixels = torch.channels_last
        self._dtype = dtype
        self._encoder = encoder

    def encode(self, images: Tensor) -> Sequence[Tensor]:
        """Images to latents and maps."""
        ordered = images.to(self._dtype).contiguous(memory_format=self._pixels)
        rows = self._encoder.rows
        if rows is not None:
            return self._prepared.encode.in_strips(rows)(ordered)  # type: ignore[no-any-return]
        return self._execute("encode", ordered)  # type: ignore[no-any-return]

    def unet_step(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> Sequence[Tensor]:
        """One step."""
        return self._execute("unet_step", latent, shifts.to(self._dtype), keys_values.to(self._dtype))  # type: ignore[no-any-return]

    def decode(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Pyramid to raw output."""
        return self._execute("decode", pyramid, prompts.to(self._dtype), images)  # type: ignore[no-any-return]

    def _execute(self, part: str, *arguments: Any) -> Any:
        return getattr(self._prepared, part)(*arguments)


class CompiledParts(EagerParts):
    """Parts that are compiled at the first call with a new size; PyTorch keeps its own disk cache.

    Arguments are those of `EagerParts`.
    """

    def __init__(self, prepared: OptimizedModel, dtype: torch.dtype, encoder: LatentEncoder) -> None:
        super().__init__(prepared, dtype, encoder)
        self._compiled_sizes: set[tuple[Any, ...]] = set()
        self._is_cpu = prepared.conditions.shifts.device.type == "cpu"
        self._compiled: dict[str, Callable[..., Any]] = {
            part: torch.compile(getattr(self._prepared, part), dynamic=False) for part in PARTS
        }

    def unet_step(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> Sequence[Tensor]:
        """One step."""
        # PyTorch compiles another graph, with its own copy of the frozen weights, for another memory layout, and the
        # encoder's latent has another one than a step's.
        return super().unet_step(latent.contiguous(), shifts, keys_values)

    def _execute(self, part: str, *arguments: Any) -> Any:
        from torch._inductor.exc import InductorError

        removed: set[str] = set()
        with self._frozen(part, arguments):
            while True:
                try:
                    return self._compiled[part](*arguments)
                except InductorError as error:
                    removed.add(_remove_damaged(error, removed))

    @contextmanager
    def _frozen(self, part: str, arguments: Sequence[Any]) -> Iterator[None]:
        """On a CPU, weights are constants, so that they can be reordered for the kernels once.

        Their mapped file is not needed afterwards, so its pages are released.
        """
        import torch._inductor.config as settings

        sizes = (part, *(argument.shape for argument in tree_leaves(arguments)))
        with ExitStack() as stack:
            if self._is_cpu:
                stack.enter_context(settings.patch(freezing=True))
                if sizes not in self._compiled_sizes:
                    stack.enter_context(releasing_files())
                    stack.enter_context(_freeing_copies(getattr(self._prepared, part)))
            yield
        self._compiled_sizes.add(sizes)


@contextmanager
def _freeing_copies(part: nn.Module) -> Iterator[None]:
    """While PyTorch freezes a part, free its channels-last copy of each weight once the weight is reordered.

    PyTorch keeps all of these copies until the last weight is reordered, which takes 2 GiB at full width.
    """
    from torch._inductor.constant_folding import ConstantFolder

    own = {tensor.untyped_storage().data_ptr() for tensor in part.state_dict(keep_vars=True).values()}
    fold = ConstantFolder.run_node

    def run_node(folder: ConstantFolder, node: torch.fx.Node) -> Any:
        found = fold(folder, node)
        # Operators such as mkldnn._reorder_convolution_weight.
        for source in node.all_input_nodes if "_reorder_" in str(node.target) else ():
            copy = folder.env.get(source)
            if source.op == "get_attr" and len(source.users) == 1 and isinstance(copy, Tensor):
                storage = copy.untyped_storage()
                if storage.data_ptr() not in own:
                    storage.resize_(0)
        return found

    ConstantFolder.run_node = run_node  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ConstantFolder.run_node = fold  # type: ignore[method-assign]


def _remove_damaged(error: "InductorError", removed: Collection[str]) -> str:
    """Remove a compiled file that cannot be loaded, for example after its writer was killed; returns its path.

    PyTorch keeps such files forever, but recreates missing ones.

    Raises:
        InductorError: the error has another cause, or removing the file did not help
    """
    inner = error.inner_exception
    if not isinstance(inner, ImportError) or inner.path is None or inner.path in removed:
        raise error
    _logger.warning("%s in PyTorch's cache is damaged: compiling again", inner.path)
    Path(inner.path).unlink(missing_ok=True)
    return inner.path
