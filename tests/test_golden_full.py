"""The released code's numbers come back at Stable Diffusion's own width: 860 million weights, about 5 GB of memory."""

import gc

import pytest
import torch
from golden import golden_state, layout_of, needs_golden, preset_of
from tapping import errors, golden_names, labels_agree, read_golden, tapped

from metaprompts import import_released

TOLERANCE = 1e-4
ROUNDING = 5e-5

pytestmark = [pytest.mark.full, needs_golden]


@pytest.fixture(scope="module")
def model(request):
    """One model at a time, which takes the generated tensors as they are; both are gone before the next is made."""
    yield import_released(golden_state(f"{layout_of(request.param)}_full"), preset_of(request.param))
    gc.collect()


@pytest.mark.parametrize(
    ("model", "name"),
    [(name.split("_full_")[0], name) for name in golden_names("full")],
    indirect=["model"],
    ids=lambda value: value,
)
def test_every_tensor_on_the_way_is_the_released_one(model, name):
    golden = read_golden(name)
    seen = tapped(model, golden.images)
    compared = errors(seen, golden)
    worst = max(compared, key=lambda error: error.largest)
    assert worst.largest <= TOLERANCE, worst
    assert max(error.root_mean_square for error in compared) <= ROUNDING
    if "argmax" in golden.arrays:
        assert labels_agree(seen["pred"], golden, TOLERANCE)
    print(f"{name}: at most {worst.largest:.1e} of the std, at {worst.key}, {torch.get_num_threads()} threads")  # noqa: T201
