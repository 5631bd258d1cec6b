import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from metaprompts.data.io import large_png
from metaprompts.data.io.large_png import write_large_png
from metaprompts.tasks import preprocess
from metaprompts.tasks.predictions import DepthPrediction, PersonPose, PosePrediction, SegmentationPrediction
from metaprompts.tasks.preprocess import enlarged_bands
from metaprompts.utils import batches

RANDOM = np.random.default_rng(0)


@pytest.fixture
def small_bands(monkeypatch):
    """All images are large ones, and bands have a few rows."""
    monkeypatch.setattr(batches, "_BAND_PIXELS", 50)
    monkeypatch.setattr(large_png, "_LARGE", 1)
    monkeypatch.setattr(preprocess, "_LARGE", 1)


@pytest.mark.parametrize(("dtype", "shape"), [(np.uint8, (9, 7)), (np.uint16, (9, 7)), (np.uint8, (9, 7, 3))])
@pytest.mark.parametrize("rows", [1, 4, 9])
def test_pillow_reads_what_was_written(tmp_path, dtype, shape, rows):
    values = RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    write_large_png(tmp_path / "a.png", shape[:2], (values[top : top + rows] for top in range(0, 9, rows)))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), values)


def test_palette(tmp_path):
    indices, colors = RANDOM.integers(0, 256, (9, 7), dtype=np.uint8), RANDOM.integers(0, 256, (256, 3), dtype=np.uint8)
    write_large_png(tmp_path / "a.png", (9, 7), [indices], palette=colors.tobytes())
    image = Image.open(tmp_path / "a.png")
    assert np.array_equal(np.asarray(image), indices)
    assert np.array_equal(np.asarray(image.convert("RGB")), colors[indices])


def example(kind):
    image = RANDOM.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    if kind == "depth":
        depth_m = RANDOM.uniform(-1, 80, (40, 30)).astype(np.float32)
        return DepthPrediction(depth_m=depth_m, image=image, valid=depth_m < 70)
    if kind == "segmentation":
        labels = RANDOM.integers(0, 4, (40, 30), dtype=np.uint8)
        return SegmentationPrediction(labels=labels, classes=("a", "b", "c", "d"), image=image)
    person = PersonPose(
        keypoints=np.array([[3, 4], [20, 30]], np.float32),
        scores=np.ones(2, np.float32),
        box_xywh=(0, 0, 9, 9),
        score=1,
    )
    return PosePrediction(people=(person,), joints=("nose", "neck"), skeleton=((0, 1),), image=image)


@pytest.mark.parametrize("kind", ["depth", "segmentation", "pose"])
def test_large_results_have_the_same_pixels(tmp_path, request, kind):
    """A PNG of 194 KB and 169 megapixels took 6 GB for depth and 11 for classes, in float copies of all its pixels."""
    prediction = example(kind)
    usual = prediction.save(tmp_path / "usual", "a")
    request.getfixturevalue("small_bands")
    large = prediction.save(tmp_path / "large", "a")
    for one, other in zip(usual, large, strict=True):
        if one.suffix == ".png":
            assert np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))
            assert Image.open(one).mode == Image.open(other).mode
        else:
            assert one.read_text() == other.read_text()


@pytest.mark.parametrize(("height", "width"), [(37, 53), (5, 4), (11, 90)])
def test_maps_are_enlarged_in_bands(small_bands, height, width):
    map_ = torch.rand(11, 9)
    whole = F.interpolate(map_[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    bands = list(enlarged_bands(map_, (height, width)))
    assert [rows.start for rows, _ in bands][1:] == [rows.stop for rows, _ in bands][:-1]
    assert torch.allclose(torch.cat([band for _, band in bands]), whole, atol=1e-6)
