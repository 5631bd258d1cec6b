import pytest
import torch

from metaprompts.modules.meta_prompts import FusedRearrangement, LevelRearrangement, rearrange
from metaprompts.modules.meta_prompts.layers import upsample_stack

CHANNELS = (32, 64, 96, 96)


def pyramid(height=8, width=16, batch=2):
    return [torch.randn(batch, channels, height >> level, width >> level) for level, channels in enumerate(CHANNELS)]


def test_every_pixel_is_scored_against_every_prompt_by_hand():
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)
    prompts = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 10.0]]])
    assert rearrange(features, prompts).tolist() == [[[[1, 2]], [[3, 4]], [[31, 42]]]]


def test_each_image_meets_its_own_prompts():
    features, prompts = torch.randn(2, 5, 3, 4), torch.randn(2, 7, 5)
    together = rearrange(features, prompts)
    for index in range(2):
        expected = (prompts[index] @ features[index].flatten(1)).view(7, 3, 4)
        torch.testing.assert_close(together[index], expected)


@pytest.mark.parametrize(("enabled", "channels"), [(True, 7), (False, 16)])
def test_levels_are_doubled_each_by_itself(enabled, channels):
    module = LevelRearrangement(CHANNELS, 16, enabled=enabled)
    maps = module(pyramid(), torch.randn(2, 7, 16))
    assert [tuple(each.shape) for each in maps] == [(2, channels, 16 >> level, 32 >> level) for level in range(4)]


@pytest.mark.parametrize(("enabled", "channels"), [(True, 7), (False, 16)])
def test_levels_are_fused_at_the_finest_size(enabled, channels):
    module = FusedRearrangement(CHANNELS, 16, enabled=enabled)
    (fused,) = module(pyramid(), torch.randn(2, 7, 16))
    assert fused.shape == (2, channels, 8, 16)


@pytest.mark.parametrize("kind", [LevelRearrangement, FusedRearrangement])
def test_without_the_dot_product_the_features_themselves_go_on(kind):
    torch.manual_seed(0)
    module = kind(CHANNELS, 16).eval()
    levels, prompts = pyramid(), torch.randn(2, 7, 16)
    scored = module(levels, prompts)
    module.enabled = False
    for features, scores in zip(module(levels, prompts), scored, strict=True):
        assert (features >= 0).all()
        torch.testing.assert_close(rearrange(features, prompts), scores)


@pytest.mark.parametrize("kind", [LevelRearrangement, FusedRearrangement])
def test_every_level_has_a_say(kind):
    torch.manual_seed(0)
    module = kind(CHANNELS, 16).eval()
    levels = [level.requires_grad_() for level in pyramid()]
    sum(each.square().sum() for each in module(levels, torch.randn(2, 7, 16))).backward()
    assert all(level.grad is not None and level.grad.abs().max() > 0 for level in levels)


@pytest.mark.parametrize("upsample", ["resize", "transposed"])
@pytest.mark.parametrize("kernel", [2, 4])
@pytest.mark.parametrize("doublings", [1, 2, 3])
def test_the_stack_doubles(kernel, doublings, upsample):
    stack = upsample_stack(6, 4, doublings=doublings, kernel=kernel, upsample=upsample)
    assert stack(torch.randn(2, 6, 3, 5)).shape == (2, 4, 3 << doublings, 5 << doublings)


def grid_of(upsample: str, kernel: int) -> float:
    """The spread of the output's interior on a constant input: 0 where all pixels are treated alike."""
    torch.manual_seed(0)
    stack = upsample_stack(6, 4, doublings=2, kernel=kernel, upsample=upsample).eval()
    with torch.no_grad():
        maps = stack(torch.ones(1, 6, 8, 8))[..., 8:-8, 8:-8]
    return float(maps.std(dim=(-2, -1)).max())


@pytest.mark.parametrize("kernel", [2, 4])
def test_resizing_leaves_no_grid(kernel):
    """Depth of smooth walls carried an 8-pixel dot grid: transposed convolutions reach neighbors by other weights."""
    assert grid_of("resize", kernel) < 1e-6
    assert grid_of("transposed", kernel) > 1e-3
