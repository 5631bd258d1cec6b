"""Track the bytes of live tensors during a computation; with fake tensors, nothing is allocated."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten


class MemoryTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the live tensors created in its context, and records the peak.

    Temporary memory of an operation is counted only if ``passing`` returns it; allocator fragmentation is not counted.

    Args:
        weights: existing tensors, which are not counted; copies of them in a different precision count as "copies"
        passing: (operation, arguments, result) -> bytes of temporary memory while the operation runs

    Attributes:
        label: label of tensors created from now on
        now: bytes in live tensors, by label
        peak: `now` at the peak
        phase: name of the current phase
        peak_phase: `phase` at the peak
    """

    def __init__(self, weights: Iterable[Tensor], passing: Callable[[Any, Any, Any], int] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._passing = passing
        self.label = "activations"
        self.now: Counter[str] = Counter()
        self.peak: Mapping[str, int] = {}
        self.phase = self.peak_phase = ""
        self._weights = {_address(tensor) for tensor in weights}
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_copy = func is aten._to_copy.default and _address(args[0]) in self._weights
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor, "copies" if is_copy else self.label)
        if self._passing is not None and (passing := self._passing(func, args, result)):
            self._note({"passing": passing})
        return result

    def move(self, size: int, source: str, label: str) -> None:
        """Move live bytes to another label."""
        self.now[source] -= size
        self.now[label] += size

    def begin_again(self) -> None:
        """Reset the peak; live tensors stay counted."""
        self._largest, self.peak, self.peak_phase = 0, {}, ""
        self._note({})

    def _count(self, tensor: Tensor, label: str) -> None:
        address = _address(tensor)
        if address in self._weights or address in self._alive:
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        self._alive[address] = weakref.ref(storage, partial(self._forget, address, size, label))
        self.now[label] += size
        self._note({})

    def _note(self, temporary: Mapping[str, int]) -> None:
        if (total := self.now.total() + sum(temporary.values())) > self._largest:
            self._largest, self.peak, self.peak_phase = total, {**self.now, **temporary}, self.phase

    def _forget(self, address: int, size: int, label: str, reference: Any) -> None:
        del reference, self._alive[address]
        self.now[label] -= size


class WorstCaseMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers value-dependent operations on fake tensors with the result that takes the most memory.

    Every condition holds, every mask is true everywhere, and all optional content is present.

    Args:
        distinct: number of distinct values in a tensor
    """

    def __init__(self, distinct: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._distinct = distinct

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else 1
        if func is aten._unique2.default:
            numbers = args[0].new_empty(min(self._distinct, args[0].numel()))
            return numbers, args[0].new_empty(0), args[0].new_empty(0)
        if func is aten.index.Tensor:
            args = (args[0], [place for index in args[1] for place in _whole_mask(index)])
        return func(*args, **(kwargs or {}))


class GpuAutocast(TorchFunctionMode):
    """Makes autocast on a CPU use float32 for norms and resizing, as it does on a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FLOAT_ON_GPU and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(Tensor, Tensor.float, (args, kwargs))
        return func(*args, **(kwargs or {}))


_FLOAT_ON_GPU: frozenset[Callable[..., Tensor]] = frozenset({F.group_norm, F.layer_norm, F.interpolate})


def backward_within_modes(loss: Tensor) -> None:
    """Run ``loss.backward()`` without suspending `GpuAutocast`, which recomputed layers would otherwise ignore."""
    _engine_run_backward(
        (loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True
    )


def call_at_first_gradient(loss: Tensor, on_gradient: Callable[[nn.Parameter], None]) -> None:
    """Call ``on_gradient`` for each parameter in the next backward pass, as soon as a part of its gradient is computed.

    Args:
        loss: the loss, with its graph
        on_gradient: called with the parameter
    """
    seen: set[int] = set()

    def first(parameter: nn.Parameter, *gradients: Any) -> None:
        del gradients
        if id(parameter) not in seen:
            seen.add(id(parameter))
            on_gradient(parameter)

    for node in _nodes(loss.grad_fn):
        for following, _ in node.next_functions:
            if hasattr(following, "variable"):
                node.register_hook(partial(first, following.variable))


def _nodes(root: Any) -> Iterator[Any]:
    """Every node of a graph, without duplicates."""
    seen, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        yield node
        fresh = {following for following, _ in node.next_functions if following is not None} - seen
        seen |= fresh
        waiting += fresh


def _address(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def _whole_mask(index: Tensor | None) -> list[Tensor | None]:
    """The index itself, or, for a mask, the positions of all its values, one tensor per dimension."""
    if index is None or index.dtype != torch.bool:
        return [index]
    return [index.new_empty(index.numel(), dtype=torch.long) for _ in range(index.ndim)]
