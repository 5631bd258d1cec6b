"""Latents that are kept: the same as encoded anew, and only for the same pixels."""

import pytest
import torch

from metaprompts.modules.backbone.encoder_cache import EncoderCache


class Encoder:
    """Counts what it is asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, images):
        self.asked.append(len(images))
        return images.mean(dim=1, keepdim=True)[..., ::8, ::8] * 3


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def test_every_image_gets_its_own_latent_whatever_is_known(images):
    cache, encode = EncoderCache(), Encoder()
    expected = Encoder()(images)
    torch.testing.assert_close(cache.latents(images[:2], encode), expected[:2], rtol=0, atol=0)
    mixed = [3, 1, 2, 0, 1]
    torch.testing.assert_close(cache.latents(images[mixed], encode), expected[mixed], rtol=0, atol=0)
    # Each by itself: in the last bit a latent depends on its batch.
    assert encode.asked == [1] * 4


def test_known_images_are_not_encoded_again(images):
    cache, encode = EncoderCache(), Encoder()
    for _ in range(3):
        cache.latents(images, encode)
    assert encode.asked == [1] * 4


def test_the_least_change_of_a_pixel_is_another_image(images):
    cache, encode = EncoderCache(), Encoder()
    cache.latents(images[:1], encode)
    changed = images[:1].clone()
    changed[0, 0, 0, 0] = torch.nextafter(changed[0, 0, 0, 0], torch.tensor(2.0))
    cache.latents(changed, encode)
    cache.latents(images[:1].flip(-1), encode)
    cache.latents(images[:1].double(), encode)
    cache.latents(images[:1].reshape(1, 3, 24, 16), encode)
    assert encode.asked == [1, 1, 1, 1, 1]


def test_a_full_cache_keeps_what_it_has_and_still_answers(images):
    latent_bytes = 1 * 2 * 3 * 4
    cache, encode = EncoderCache(largest_bytes=2 * latent_bytes), Encoder()
    expected = Encoder()(images)
    cache.latents(images, encode)
    torch.testing.assert_close(cache.latents(images, encode), expected, rtol=0, atol=0)
    assert encode.asked == [1] * 6


def test_changing_what_was_given_does_not_change_what_is_kept(images):
    cache, encode = EncoderCache(), Encoder()
    first = cache.latents(images, encode)
    kept = first.clone()
    first.zero_()
    torch.testing.assert_close(cache.latents(images, encode), kept, rtol=0, atol=0)
