"""Make the C library return freed memory while a large model trains on a CPU."""

import ctypes
import sys

from torch import nn

# glibc's mallopt(3).
_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK = 2**20
_LARGE_MODEL = 2**30


def trim_malloc(model: nn.Module) -> bool:
    """With glibc, return freed memory of a large model to the system immediately.

    By default, glibc soon keeps freed blocks of up to 32 MiB. Memory freed after loading, and activations and gradients
    of many sizes, then leave gaps: more than half a GiB when a model of Stable Diffusion's size is trained. A small
    model is faster without trimming.

    Args:
        model: a model on the CPU

    Returns:
        whether trimming was enabled
    """
    weights = sum(each.numel() * each.element_size() for each in model.parameters())
    if weights < _LARGE_MODEL or sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
    # Return memory that was freed while the model was built.
    library.malloc_trim(0)
    return True
