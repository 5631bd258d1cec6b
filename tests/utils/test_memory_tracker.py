import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from metaprompts.utils.memory_tracker import (
    GpuAutocast,
    MemoryTracker,
    WorstCaseMode,
    backward_within_modes,
    call_at_first_gradient,
)


def test_tensors_count_while_they_live_and_weights_never():
    weight = torch.ones(100)
    with MemoryTracker([weight]) as live:
        live.phase = "first"
        first = weight * 2
        view = first[:50]
        assert live.now == {"activations": 400}
        live.phase, live.label = "second", "work"
        second = weight.double()
        del first
        assert live.now == {"activations": 400, "copies": 800}
        del view
        assert live.now.total() == 800
        del second
        weight += 1
    assert live.now.total() == 0
    assert (live.peak, live.peak_phase) == ({"activations": 400, "copies": 800}, "second")


@pytest.mark.parametrize("mask", [torch.ones(3, 4, dtype=torch.bool), torch.zeros(3, 4, dtype=torch.bool)])
def test_without_numbers_masks_are_true_and_all_classes_are_there(mask):
    expected = torch.arange(24.0).reshape(3, 4, 2)[torch.ones_like(mask)].shape
    with FakeTensorMode() as mode, WorstCaseMode(distinct=5):
        values, fake = torch.empty(3, 4, 2), mode.from_tensor(mask)
        assert fake.any()
        assert values[fake].shape == expected
        assert len(torch.unique(torch.empty(3, 4, dtype=torch.long)).tolist()) == 5


def norms(values):
    normed = F.layer_norm(F.group_norm(values, 2), values.shape[1:])
    return F.silu(normed), F.interpolate(normed, scale_factor=2), F.linear(normed, torch.ones(8, 8))


def test_norms_and_resizing_are_float32_where_a_gpu_has_them_so():
    """PyTorch's own table says which operations autocast changes on a GPU and leaves alone on a CPU."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    for name in ("group_norm", "layer_norm", "upsample_bilinear2d", "upsample_nearest2d"):
        assert has(f"aten::{name}", "AutocastCUDA")
        assert not has(f"aten::{name}", "AutocastCPU")
    values = torch.rand(1, 4, 8, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert [each.dtype for each in norms(values)] == [torch.bfloat16] * 3
        with GpuAutocast():
            assert [each.dtype for each in norms(values)] == [torch.float32, torch.float32, torch.bfloat16]
    with GpuAutocast():
        assert F.group_norm(values, 2).dtype == torch.bfloat16


def test_what_is_computed_again_sees_the_same_norms():
    """Tensor.backward steps out of function modes, and the second computation would have other dtypes."""
    values = torch.rand(1, 4, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    with GpuAutocast():
        with torch.autocast("cpu", torch.bfloat16):
            loss = checkpoint(lambda inner: norms(inner)[0].sum(), values, use_reentrant=False)
        backward_within_modes(loss)
    assert values.grad is not None
    assert values.grad.dtype == torch.bfloat16


def test_a_parameter_used_twice_is_reported_once_and_one_that_is_not_used_never():
    layer, idle = nn.Linear(3, 3), nn.Linear(3, 3)
    called: list[nn.Parameter] = []
    loss = layer(layer(torch.rand(2, 3))).sum()
    call_at_first_gradient(loss, called.append)
    assert called == []
    loss.backward()
    assert {id(each) for each in called} == {id(each) for each in layer.parameters()}
    assert len(called) == 2
    assert idle.weight.grad is None
