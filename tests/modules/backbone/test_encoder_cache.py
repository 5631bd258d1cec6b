"""Latents that are kept: the same as encoded anew, and only for the same pixels."""

import pytest
import torch
from safetensors.torch import save_file

from metaprompts.modules.backbone.encoder_cache import DiskEncoderCache, EncoderCache


class Encoder:
    """Counts what it is asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, images):
        self.asked.append(len(images))
        return images.mean(dim=1, keepdim=True)[..., ::8, ::8] * 3


def latents(cache, images, encode):
    (found,) = cache.outputs(images, lambda batch: [encode(batch)])
    return found


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def test_every_image_gets_its_own_latent_whatever_is_known(images):
    cache, encode = EncoderCache(), Encoder()
    expected = Encoder()(images)
    torch.testing.assert_close(latents(cache, images[:2], encode), expected[:2], rtol=0, atol=0)
    mixed = [3, 1, 2, 0, 1]
    torch.testing.assert_close(latents(cache, images[mixed], encode), expected[mixed], rtol=0, atol=0)
    # Each by itself: in the last bit a latent depends on its batch.
    assert encode.asked == [1] * 4


def test_known_images_are_not_encoded_again(images):
    cache, encode = EncoderCache(), Encoder()
    for _ in range(3):
        latents(cache, images, encode)
    assert encode.asked == [1] * 4


def test_the_least_change_of_a_pixel_is_another_image(images):
    cache, encode = EncoderCache(), Encoder()
    latents(cache, images[:1], encode)
    changed = images[:1].clone()
    changed[0, 0, 0, 0] = torch.nextafter(changed[0, 0, 0, 0], torch.tensor(2.0))
    latents(cache, changed, encode)
    latents(cache, images[:1].flip(-1), encode)
    latents(cache, images[:1].double(), encode)
    latents(cache, images[:1].reshape(1, 3, 24, 16), encode)
    assert encode.asked == [1, 1, 1, 1, 1]


def test_a_full_cache_keeps_what_it_has_and_still_answers(images):
    latent_bytes = 1 * 2 * 3 * 4
    cache, encode = EncoderCache(largest_bytes=2 * latent_bytes), Encoder()
    expected = Encoder()(images)
    latents(cache, images, encode)
    torch.testing.assert_close(latents(cache, images, encode), expected, rtol=0, atol=0)
    assert encode.asked == [1] * 6


def test_changing_what_was_given_does_not_change_what_is_kept(images):
    cache, encode = EncoderCache(), Encoder()
    first = latents(cache, images, encode)
    kept = first.clone()
    first.zero_()
    torch.testing.assert_close(latents(cache, images, encode), kept, rtol=0, atol=0)


class TestOnDisk:
    """Files that further processes and runs find."""

    def test_another_cache_on_the_folder_encodes_nothing(self, images, tmp_path):
        encode = Encoder()
        expected = latents(DiskEncoderCache(tmp_path), images, encode)
        torch.testing.assert_close(latents(DiskEncoderCache(tmp_path), images, encode), expected, rtol=0, atol=0)
        assert encode.asked == [1] * 4
        assert len(list(tmp_path.rglob("*.safetensors"))) == 4

    def test_several_maps_come_back_in_order_and_type(self, images, tmp_path):
        maps = [torch.rand(1, 2, 3, dtype=torch.bfloat16), torch.rand(1, 5), *[torch.rand(1, n) for n in range(1, 11)]]
        first = DiskEncoderCache(tmp_path).outputs(images[:1], lambda image: maps)
        again = DiskEncoderCache(tmp_path).outputs(images[:1], lambda image: pytest.fail("encoded again"))
        for one, other, given in zip(first, again, maps, strict=True):
            assert one.dtype == other.dtype == given.dtype
            assert torch.equal(one, other)

    @pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
    def test_a_damaged_file_is_encoded_and_written_anew(self, damage, images, tmp_path):
        encode = Encoder()
        expected = latents(DiskEncoderCache(tmp_path), images[:1], encode)
        (path,) = tmp_path.rglob("*.safetensors")
        content = path.read_bytes()
        path.write_bytes(
            {"cut": content[:-1], "changed": content[:-1] + bytes([content[-1] ^ 1]), "emptied": b""}[damage]
        )
        for asked in (2, 2):
            found = latents(DiskEncoderCache(tmp_path), images[:1], encode)
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
            assert len(encode.asked) == asked
        assert path.read_bytes() == content

    def test_what_cannot_be_written_is_said_once_and_encoded_every_time(self, images, tmp_path, caplog):
        """A full disk, or a file in the place of the folder, does not end a training of days."""
        (tmp_path / "cache").write_text("no folder")
        cache, encode = DiskEncoderCache(tmp_path / "cache", full="cannot be stored"), Encoder()
        for _ in range(2):
            torch.testing.assert_close(latents(cache, images, encode), Encoder()(images), rtol=0, atol=0)
        assert encode.asked == [1] * 8
        assert caplog.text.count("cannot be stored") == 1

    def test_a_file_without_a_checksum_is_written_anew(self, images, tmp_path):
        encode = Encoder()
        expected = latents(DiskEncoderCache(tmp_path), images[:1], encode)
        (path,) = tmp_path.rglob("*.safetensors")
        save_file({"0": torch.zeros_like(expected[0])}, path)
        torch.testing.assert_close(latents(DiskEncoderCache(tmp_path), images[:1], encode), expected, rtol=0, atol=0)

    def test_precision_makes_another_entry(self, images, tmp_path):
        encode = Encoder()
        cache = DiskEncoderCache(tmp_path)
        latents(cache, images[:1], encode)
        with torch.autocast("cpu", torch.bfloat16):
            latents(cache, images[:1], encode)
        assert encode.asked == [1, 1]
