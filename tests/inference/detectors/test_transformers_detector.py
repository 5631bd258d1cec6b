"""Folders with random weights: shapes, boxes and messages, not quality."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from metaprompts.errors import InputError
from metaprompts.models.detectors import load_detector

LABELS = {"id2label": {0: "cat", 1: "Person"}, "label2id": {"cat": 0, "Person": 1}}
SIDES = {"shortest_edge": 64, "longest_edge": 96}
IMAGE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)


def rt_detr():
    from transformers import RTDetrImageProcessorPil, RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1] * 4,
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrV2Config(
        backbone_config=backbone,
        encoder_hidden_dim=16,
        encoder_in_channels=[8, 16, 16],
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        decoder_in_channels=[16] * 3,
        decoder_ffn_dim=16,
        decoder_layers=2,
        decoder_attention_heads=2,
        num_queries=10,
        num_denoising=0,
        **LABELS,
    )
    return RTDetrV2ForObjectDetection(config), RTDetrImageProcessorPil(size={"height": 64, "width": 64})


def detr():
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessorPil, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, layer_type="basic", out_features=["stage4"]
    )
    config = DetrConfig(
        use_timm_backbone=False,
        backbone=None,
        use_pretrained_backbone=False,
        backbone_config=backbone,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=10,
        **LABELS,
    )
    return DetrForObjectDetection(config), DetrImageProcessorPil(size=SIDES)


def yolos():
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

    config = YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[64, 96],
        num_detection_tokens=10,
        **LABELS,
    )
    return YolosForObjectDetection(config), YolosImageProcessorPil(size=SIDES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with detectors of three kinds."""
    root = tmp_path_factory.mktemp("detectors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for make in (rt_detr, detr, yolos):
            for part in make():
                part.save_pretrained(root / make.__name__)
    return root


@pytest.mark.parametrize("kind", ["rt_detr", "detr", "yolos"])
def test_boxes_are_in_pixels_of_the_image(folders, kind):
    found = load_detector(folders / kind, "cpu", min_score=0.0, nms=1.0)(IMAGE)
    assert found.dtype == np.float32
    assert 0 < len(found) <= 10
    assert (found[:, :2] >= 0).all()
    assert (found[:, 0] + found[:, 2] <= 120.01).all()
    assert (found[:, 1] + found[:, 3] <= 90.01).all()
    assert (np.diff(found[:, 4]) <= 0).all()


def test_boxes_are_those_of_the_models_own_output(folders):
    """Centers and sizes as shares of the image, and the softmax of the person's logit, from YOLOS itself."""
    from transformers import YolosForObjectDetection, YolosImageProcessorPil

    model = YolosForObjectDetection.from_pretrained(folders / "yolos")
    pixels = YolosImageProcessorPil.from_pretrained(folders / "yolos")(images=IMAGE, return_tensors="pt")
    with torch.inference_mode():
        raw = model(**pixels)
    scores = raw.logits[0].softmax(-1)
    is_person = scores[:, :-1].argmax(-1) == 1
    boxes = raw.pred_boxes[0][is_person] * torch.tensor([120, 90, 120, 90])
    found = load_detector(folders / "yolos", "cpu", min_score=0.0, nms=1.0)(IMAGE)
    assert len(found) == int(is_person.sum())
    order = scores[is_person, 1].argsort(descending=True, stable=True)
    np.testing.assert_allclose(found[:, 4], scores[is_person, 1][order], rtol=1e-5)
    centers = found[:, :2] + found[:, 2:4] / 2
    np.testing.assert_allclose(centers, boxes[order, :2], rtol=1e-3)


@pytest.fixture
def broken(folders, tmp_path):
    """A copy of the smallest detector."""
    return shutil.copytree(folders / "yolos", tmp_path / "broken")


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_labels_without_people(broken):
    rewrite(broken, id2label={"0": "cat", "1": "dog"}, label2id={"cat": 0, "dog": 1})
    with pytest.raises(InputError, match="no label person, but cat, dog"):
        load_detector(broken, "cpu")


def test_weights_that_are_missing_are_not_invented(broken):
    """Transformers fills them with random numbers, and only warns."""
    weights = load_file(broken / "model.safetensors")
    del weights["class_labels_classifier.layers.2.weight"]
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="no weights for class_labels_classifier"):
        load_detector(broken, "cpu")


def test_a_model_of_another_kind(broken):
    rewrite(broken, model_type="bert")
    with pytest.raises(InputError, match="is a bert model from transformers; expected an object detector"):
        load_detector(broken, "cpu")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_files_that_are_missing_or_cut(broken, name):
    path = broken / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError):
        load_detector(broken, "cpu")
    path.unlink()
    with pytest.raises(InputError) as caught:
        load_detector(broken, "cpu")
    assert "\n" not in str(caught.value)


def test_a_detector_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match="no model at"):
        load_detector(tmp_path / "nothing", "cpu")
