"""The second encoder: loaded as transformers loads it, normalized as trained, resized to every level."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CONFIG_MAPPING, MODEL_FOR_BACKBONE_MAPPING, BertConfig

from metaprompts.errors import InputError
from metaprompts.modules.backbone import second_loading
from metaprompts.modules.backbone.encoder_cache import EncoderCache
from metaprompts.modules.backbone.second_encoder import SecondEncoder, with_maps
from metaprompts.modules.backbone.second_loading import load_second, plain_config, stand_in_second
from second_encoders import FAMILIES, second_folder, write_second
from small import smooth_images

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
WIDTHS = (8, 16, 24, 24)


def second_encoder(source):
    return SecondEncoder(load_second(source, len(WIDTHS)), WIDTHS).eval()


@pytest.mark.parametrize("kind", FAMILIES)
def test_maps_are_those_of_transformers(kind):
    """Of its own network, loaded by itself; ours has other rotary embeddings for DINOv3."""
    encoder = second_encoder(second_folder(kind))
    config = CONFIG_MAPPING[kind].from_pretrained(second_folder(kind))
    config.out_indices = [1, 2, 3, 4]
    network = MODEL_FOR_BACKBONE_MAPPING[type(config)].from_pretrained(second_folder(kind), config=config).eval()
    images = smooth_images(2, 4 * encoder.multiple, 6 * encoder.multiple)
    with torch.no_grad():
        expected = network((images - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)).feature_maps
    for found, of_transformers in zip(encoder.maps(images), expected, strict=True):
        torch.testing.assert_close(found, of_transformers, rtol=1e-4, atol=1e-5)
    assert all(each.std() > 1e-3 for each in expected)


@pytest.mark.parametrize(
    ("kind", "multiple", "sizes"),
    [
        ("dinov2", 14, [(5, 8)] * 4),
        ("dinov3_vit", 16, [(4, 7)] * 4),
        ("convnext", 32, [(16, 32), (8, 16), (4, 8), (2, 4)]),
    ],
)
def test_any_size_is_enlarged_to_a_multiple(kind, multiple, sizes):
    encoder = second_encoder(second_folder(kind))
    assert encoder.multiple == multiple
    maps = encoder(torch.rand(1, 3, 60, 100))
    assert [tuple(each.shape[-2:]) for each in maps] == sizes
    assert [each.shape[1] for each in maps] == list(WIDTHS)
    # Smaller than a patch.
    assert encoder.maps(torch.rand(1, 3, 8, 9))[0].shape[-1] >= 1


def test_a_resized_image_is_what_the_network_sees():
    """An image of 42 pixels is the same as one enlarged by bilinear resizing before."""
    encoder, images = second_encoder(second_folder("dinov2")), smooth_images(1, 60, 64)
    enlarged = F.interpolate(images, size=(70, 70), mode="bilinear", align_corners=False)
    for found, expected in zip(encoder.maps(images), encoder.maps(enlarged), strict=True):
        torch.testing.assert_close(found, expected)


def test_maps_are_added_at_the_size_of_each_level():
    pyramid = [torch.rand(1, 8, 12, 20), torch.rand(1, 16, 6, 10)]
    maps = [torch.rand(1, 8, 5, 8), torch.rand(1, 16, 6, 10)]
    added = with_maps(pyramid, maps)
    assert torch.equal(added[1], pyramid[1] + maps[1])
    resized = F.interpolate(maps[0], size=(12, 20), mode="bilinear", align_corners=False)
    assert torch.equal(added[0], pyramid[0] + resized)
    assert all(one is other for one, other in zip(with_maps(pyramid, []), pyramid, strict=True))


def test_projections_start_at_zero_and_draw_no_random_numbers():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    encoder = second_encoder("random:dinov2-micro")
    assert torch.equal(torch.rand(1), expected)
    assert all(not each.any() for each in encoder(torch.rand(1, 3, 64, 64)))


def test_the_network_stays_frozen_and_in_evaluation_mode(tmp_path):
    write_second(tmp_path, "dinov2", hidden_dropout_prob=0.5)
    encoder, images = second_encoder(str(tmp_path)).train(), smooth_images(1, 56, 56)
    assert torch.equal(encoder.maps(images)[0], encoder.maps(images)[0])
    assert encoder.projections.training
    assert not any(each.requires_grad for each in encoder.network.parameters())
    assert not any(each.requires_grad for each in encoder.maps(images))


def test_the_cache_keeps_maps_and_encodes_each_image_once(monkeypatch):
    encoder, images = second_encoder(second_folder("convnext")), smooth_images(3, 64, 64)
    expected = encoder(images)
    asked, encoded = [], encoder._encoded
    monkeypatch.setattr(encoder, "_encoded", lambda batch: asked.append(len(batch)) or encoded(batch))
    encoder.cache = EncoderCache()
    for _ in range(2):
        for found, each in zip(encoder(images.flip(0)), expected, strict=True):
            torch.testing.assert_close(found.flip(0), each)
    assert asked == [1, 1, 1]


def test_a_full_cache_says_so_once(caplog):
    encoder, images = second_encoder(second_folder("convnext")), smooth_images(3, 64, 64)
    encoder.cache = EncoderCache(30_000, full="the cache is full")
    expected = [encoder._encoded(images[place : place + 1]) for place in range(3)]
    for _ in range(2):
        found = encoder.maps(images)
        assert all(torch.equal(each[2:], alone) for each, alone in zip(found, expected[2], strict=True))
    assert [record.getMessage() for record in caplog.records] == ["the cache is full (2 images, 0.012 MB each)"]


def test_fake_images_leave_no_trace():
    """transformers' own rotary embeddings keep coordinates by size, so real images of that size got fake ones."""
    encoder, images = second_encoder(second_folder("dinov3_vit")), smooth_images(1, 48, 80)
    expected = encoder.maps(images)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        encoder.maps(torch.empty(1, 3, 80, 48))
    encoder.maps(smooth_images(1, 80, 48))
    assert torch.equal(encoder.maps(images)[0], expected[0])


def test_mean_and_deviation_are_those_of_the_image_processor(tmp_path):
    write_second(tmp_path, "convnext")
    assert load_second(str(tmp_path), 4).mean == pytest.approx(MEAN.tolist())
    processor = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "rescale_factor": 1 / 255}
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(processor))
    found = load_second(str(tmp_path), 4)
    assert (found.mean, found.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    path.write_text(json.dumps(processor | {"do_normalize": False}))
    assert load_second(str(tmp_path), 4).std == (1, 1, 1)
    for wrong, said in (
        ({"do_rescale": False}, r"does not scale pixels to \[0, 1\]"),
        ({"rescale_factor": 1 / 127.5}, r"does not scale pixels to \[0, 1\]"),
        ({"image_std": [0.1, 0.2]}, "expected three numbers"),
        ({"image_std": [0, 1, 1]}, "std above 0"),
        ({"image_mean": "none"}, "no valid image_mean"),
    ):
        path.write_text(json.dumps(processor | wrong))
        with pytest.raises(InputError, match=said):
            load_second(str(tmp_path), 4)


def broken_folder(folder, change):
    shutil.copytree(second_folder("dinov2"), folder, dirs_exist_ok=True)
    change(folder)


def without_config(folder):
    (folder / "config.json").unlink()


def of_bert(folder):
    BertConfig().save_pretrained(folder)


def of_no_type(folder):
    (folder / "config.json").write_text("{}")


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def changed_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def without_a_tensor(folder):
    changed_tensors(folder, lambda tensors: tensors.pop("layernorm.weight"))


def with_nan(folder):
    changed_tensors(folder, lambda tensors: tensors["layernorm.weight"].fill_(float("nan")))


def with_config(**changed):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_config, "is not a transformers folder: it lacks config.json"),
        (of_bert, "describes a model of type bert; a second encoder is one of dinov2, .*: choose another backbone.sec"),
        (of_no_type, "describes a model of type None"),
        (without_weights, "the second encoder in .* cannot be loaded"),
        (without_a_tensor, "the second encoder in .* lacks 1 tensors: layernorm.weight"),
        (with_nan, "NaN or infinity in layernorm.weight"),
        (with_config(num_hidden_layers=10**6), "is 1000000; expected 0 to 64"),
        (with_config(num_hidden_layers=3), "has 3 stages, but the pyramid has 4 levels"),
        (with_config(num_attention_heads=0), "cannot be loaded"),
        (with_config(hidden_size="wide"), "is not a valid config of type dinov2"),
        (with_config(hidden_size=4096), "describes a network of .* but its files have only"),
        (with_config(num_channels=4), "inputs other than RGB images"),
        (with_config(patch_size=[14, 28]), "square patches"),
    ],
)
def test_broken_folders_are_reported_in_one_line(tmp_path, change, said):
    broken_folder(tmp_path / "second", change)
    with pytest.raises(InputError, match=said) as error:
        load_second(str(tmp_path / "second"), 4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "no second encoder at nowhere: set backbone.second to a hub id"),
        ("random:vgg", "the architecture of backbone.second random:vgg is unknown: give .* random:dinov2-base"),
    ],
)
def test_wrong_sources_are_reported(source, said):
    with pytest.raises(InputError, match=said):
        load_second(source, 4)


def test_a_file_is_reported(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"backbone\.second is a file"):
        load_second(str(tmp_path / "model.safetensors"), 4)


def test_a_hub_id_is_read_from_the_cache(monkeypatch):
    """Only the files that are needed are asked for."""
    asked = []

    def download(source, allow_patterns):
        asked.append((source, allow_patterns))
        return second_folder("convnext")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = load_second("facebook/convnext-tiny-224", 4)
    assert found.source == "facebook/convnext-tiny-224"
    assert asked == [(found.source, ["preprocessor_config.json", "config.json", "model.safetensors"])]


def test_a_hub_that_cannot_be_reached_is_reported(monkeypatch):
    def fail(*_, **__):
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(InputError, match="no facebook/dinov2-base: neither a local folder nor available on the Hub"):
        load_second("facebook/dinov2-base", 4)


@pytest.mark.parametrize(
    ("source", "parameters"),
    [
        ("facebook/dinov2-small", 22_056_576),
        ("facebook/dinov2-base", 86_580_480),
        ("facebook/dinov2-large", 304_368_640),
        ("facebook/dinov2-giant", 1_136_480_768),
    ],
)
def test_architectures_of_hub_ids_have_the_published_number_of_parameters(source, parameters):
    with torch.device("meta"):
        found = stand_in_second(source, 4)
    assert sum(each.numel() for each in found.network.parameters()) == parameters
    layers = found.network.config.num_hidden_layers
    assert plain_config(found.network.config)["out_indices"] == [layers // 4, layers // 2, 3 * layers // 4, layers]


@pytest.mark.parametrize("name", second_loading._ARCHITECTURES)
def test_every_architecture_is_built(name):
    with torch.device("meta"):
        found = stand_in_second(f"random:{name}", 4)
    assert len(found.network.channels) == 4
