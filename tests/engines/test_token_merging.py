"""Merging tokens approximates, but only where tokens differ."""

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

import metaprompts
from metaprompts.engines.optimized import OptimizedModel
from metaprompts.engines.token_merging import MergedSelfAttention, Merging, split_places
from metaprompts.errors import InputError
from small import small_model


def attention() -> Attention:
    torch.manual_seed(0)
    return Attention(query_dim=8, heads=2, dim_head=4).double().eval()


def tokens(batch: int, count: int) -> Tensor:
    return torch.randn(batch, count, 8, generator=torch.Generator().manual_seed(1)).double()


def random_images(count: int, height: int, width: int) -> Tensor:
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    return nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


def test_a_share_of_none_is_the_attention_itself() -> None:
    layer, given = attention(), tokens(2, 12)

    assert torch.equal(MergedSelfAttention(layer, 0)(given, size=(3, 4)), layer(given))


def test_a_share_of_none_changes_nothing_of_a_model() -> None:
    model, images = small_model("depth"), random_images(1, 64, 64)

    assert torch.equal(OptimizedModel(model, merged_tokens=0.0)(images), OptimizedModel(model)(images))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (4, 5), (1, 9), (1, 1)])
def test_equal_tokens_are_merged_without_loss(share: float, size: tuple[int, int]) -> None:
    """All tokens of a 2x2 block are one: whichever are merged, keys count as often as before."""
    layer = attention()
    coarse = tokens(2, 16).view(2, 4, 4, 8)
    given = coarse.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)
    rows, columns = torch.arange(size[0]) // 2, torch.arange(size[1]) // 2
    given = given[:, ::3, ::3][:, rows % 4][:, :, columns % 4].reshape(2, -1, 8)

    found = MergedSelfAttention(layer, share)(given, size=size)

    assert torch.allclose(found, layer(given), rtol=0, atol=1e-12)


def test_an_example_worked_by_hand() -> None:
    """A map of 2x4: destinations are 0 and 2. Token 4 is parallel to 2, and 5 nearly to 0."""
    given = torch.tensor(
        [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 3.0], [2.0, 0.5], [-1.0, -1.0], [-2.0, 0.0]]
    )[None].double()

    merging = Merging.of(given, (2, 4), 2)

    kept = [[-1.0, 0.0], [0.0, -1.0], [-1.0, -1.0], [-2.0, 0.0]]
    destinations = [[1.5, 0.25], [0.0, 2.0]]
    rows = {tuple(row): place for place, row in enumerate(merging.tokens[0].tolist())}
    assert set(rows) == set(map(tuple, [*kept, *destinations]))
    assert merging.counts[0, rows[1.5, 0.25]] == 2
    assert merging.counts[0, rows[0.0, 2.0]] == 2
    assert merging.counts.sum() == 8
    back = merging.undone(merging.tokens)[0].tolist()
    averaged = {0: [1.5, 0.25], 5: [1.5, 0.25], 2: [0.0, 2.0], 4: [0.0, 2.0]}
    assert back == [averaged.get(place, given[0, place].tolist()) for place in range(8)]


def test_each_image_merges_its_own_tokens() -> None:
    layer, given = attention(), tokens(3, 30)
    merged = MergedSelfAttention(layer, 0.5)

    together = merged(given, size=(5, 6))

    each = torch.cat([merged(given[place : place + 1], size=(5, 6)) for place in range(3)])
    assert torch.allclose(together, each, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 4), (4, 7), (5, 7), (1, 6), (3, 1)])
def test_every_token_is_a_destination_or_another(height: int, width: int) -> None:
    destinations, others = split_places((height, width), torch.device("cpu"))

    assert sorted([*destinations.tolist(), *others.tolist()]) == list(range(height * width))
    assert destinations.tolist() == [
        row * width + column for row in range(0, height, 2) for column in range(0, width, 2)
    ]


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_embedded_models_stay_near_themselves(share: float) -> None:
    """On an image whose latent is odd both ways."""
    model, images = metaprompts.load("micro-segmentation", "cpu"), random_images(2, 136, 168)

    exact, merged = OptimizedModel(model)(images), OptimizedModel(model, merged_tokens=share)(images)

    assert not torch.equal(merged, exact)
    assert (merged - exact).abs().mean() < 0.2 * exact.abs().mean()


def test_the_model_is_left_as_it_was() -> None:
    model, images = small_model("depth"), random_images(1, 64, 64)
    before = model(images)

    OptimizedModel(model, merged_tokens=0.5)(images)

    assert torch.equal(model(images), before)


def unet_step_of_a_small_model() -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor]]:
    prepared = OptimizedModel(small_model("depth"), merged_tokens=0.5)
    conditioning = prepared.conditions(1, None)
    return prepared.unet_step, (torch.randn(1, 16, 5, 7), conditioning.shifts[0], conditioning.keys_values[0])


@pytest.mark.slow
def test_a_step_with_merged_tokens_can_be_exported() -> None:
    unet_step, example = unet_step_of_a_small_model()

    with torch.no_grad():
        exported = torch.export.export(unet_step, example).module()
        for found, expected in zip(exported(*example), unet_step(*example), strict=True):
            assert torch.allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [-0.1, 0.8, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=r"the fraction of tokens to merge is .*; expected 0 to 0\.75"):
        OptimizedModel(small_model("depth"), merged_tokens=share)
