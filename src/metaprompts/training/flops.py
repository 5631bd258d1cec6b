"""Count floating-point operations on real or fake tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums PyTorch's own formulas for matrix products, convolutions and attention; other operations count as zero.

    `torch.utils.flop_counter.FlopCounterMode` also counts per module and therefore keeps activations alive, which
    would distort a simultaneous count of bytes.

    Attributes:
        total: operations so far; a multiply-add counts as two
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Execute the operation and count it."""
        result = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result
