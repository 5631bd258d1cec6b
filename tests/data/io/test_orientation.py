import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from labeled_folders import depth_folder, segmentation_folder
from metaprompts.data.config.depth import DepthData
from metaprompts.data.config.pose import PoseData
from metaprompts.data.config.segmentation import SegmentationData
from metaprompts.data.io.decoding import turned
from metaprompts.errors import InputError
from open_split import open_split

SIZE = (16, 24)
"""Height and width of the image as it is stored."""


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def stored():
    """(16, 24) labels 0 and 1, no turn of which is the same."""
    labels = np.zeros(SIZE, np.uint8)
    labels[:4, :6] = labels[:2, :12] = 1
    return labels


def save(root, orientation, labels, *, own=None, depth=False):
    """An image whose red channel shows its labels, and a label file."""
    (root / "images").mkdir(exist_ok=True)
    (root / "labels").mkdir(exist_ok=True)
    image = Image.fromarray(np.repeat(stored()[:, :, None] * 255, 3, axis=2))
    image.save(root / "images/a.png", exif=exif(orientation))
    target = Image.fromarray(labels.astype(np.uint16) * 1000 + 1000 if depth else labels)
    target.save(root / "labels/a.png", **({} if own is None else {"exif": exif(own)}))


def sample(root, rule="check", depth=False):
    section = {"root": root, "train": "images", "train_labels": "labels", "exif": rule}
    if depth:
        return open_split(DepthData(**section), "train")[0]
    return open_split(SegmentationData(**section), "train", ("a", "b"))[0]


def overlaps(sample):
    labels = sample.labels if sample.labels is not None else sample.depth_m - 1
    return np.array_equal(sample.image[..., 0] > 127, labels > 0.5)


@pytest.mark.parametrize("depth", [False, True])
class TestLabels:
    @pytest.mark.parametrize("orientation", [5, 6, 7, 8])
    def test_the_size_shows_that_labels_are_upright(self, tmp_path, depth, orientation):
        save(tmp_path, orientation, turned(stored(), orientation), depth=depth)
        found = sample(tmp_path, depth=depth)
        assert found.image.shape[:2] == SIZE[::-1]
        assert overlaps(found)

    @pytest.mark.parametrize("orientation", [5, 6, 7, 8])
    def test_the_size_shows_that_labels_are_not_turned(self, tmp_path, depth, orientation):
        """The error named two sizes, and not what made them differ."""
        save(tmp_path, orientation, stored(), depth=depth)
        with pytest.raises(
            InputError, match=rf"orientation {orientation} .*fits the stored pixels.*--data.exif ignore"
        ):
            sample(tmp_path, depth=depth)
        assert overlaps(sample(tmp_path, "ignore", depth))

    @pytest.mark.parametrize("orientation", [2, 3, 4])
    def test_the_size_does_not_tell(self, tmp_path, depth, orientation):
        """Mirrored images, and those on their head, matched in size and were trained with misplaced labels."""
        save(tmp_path, orientation, stored(), depth=depth)
        with pytest.raises(InputError, match=rf"orientation {orientation} .*--data.exif apply .*--data.exif ignore"):
            sample(tmp_path, depth=depth)
        assert overlaps(sample(tmp_path, "ignore", depth))
        assert not overlaps(sample(tmp_path, "apply", depth))
        save(tmp_path, orientation, turned(stored(), orientation), depth=depth)
        assert overlaps(sample(tmp_path, "apply", depth))

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("rule", ["check", "apply", "ignore"])
    def test_labels_with_the_same_orientation(self, tmp_path, depth, orientation, rule):
        save(tmp_path, orientation, stored(), own=orientation, depth=depth)
        found = sample(tmp_path, rule, depth)
        assert overlaps(found)
        swaps = rule != "ignore" and orientation >= 5
        assert found.image.shape[:2] == (SIZE[::-1] if swaps else SIZE)

    def test_labels_with_another_orientation(self, tmp_path, depth):
        save(tmp_path, 1, stored(), own=3, depth=depth)
        with pytest.raises(InputError, match=r"labels/a\.png has the EXIF orientation 3 .*images/a\.png has none"):
            sample(tmp_path, depth=depth)

    def test_other_sizes_are_reported_as_before(self, tmp_path, depth):
        save(tmp_path, 6, np.zeros((5, 5), np.uint8), depth=depth)
        with pytest.raises(InputError, match=r"a\.png is 24x16 but .*a\.png is 5x5"):
            sample(tmp_path, depth=depth)


def test_a_square_image(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images/a.jpg", exif=exif(6))
    Image.new("L", (8, 8)).save(tmp_path / "labels/a.png")
    with pytest.raises(InputError, match=r"orientation 6 .*does not show"):
        segmentation_folder(tmp_path, "images", "labels", classes=1)[0]
    Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(tmp_path / "labels/a.png")
    with pytest.raises(InputError, match=r"orientation 6 .*does not show"):
        depth_folder(tmp_path, "images", "labels")[0]


class TestAnnotations:
    @pytest.fixture
    def read(self, tmp_path):
        def run(orientation, rule="check", **size):
            Image.fromarray(np.repeat(stored()[:, :, None], 3, axis=2)).save(tmp_path / "a.png", exif=exif(orientation))
            person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "keypoints": [2, 2, 2]}
            content = {
                "images": [{"id": 1, "file_name": "a.png", **size}],
                "annotations": [person],
                "categories": [{"id": 1, "name": "person", "keypoints": ["nose"]}],
            }
            (tmp_path / "people.json").write_text(json.dumps(content))
            data = PoseData(root=tmp_path, train="people.json", train_images="", exif=rule)
            return open_split(data, "train")[0].image

        return run

    def test_of_the_upright_image(self, read):
        assert read(6, height=24, width=16).shape == (24, 16, 3)

    def test_of_the_stored_pixels(self, read):
        with pytest.raises(InputError, match=r"orientation 6 .*people\.json fits the stored pixels"):
            read(6, height=16, width=24)
        assert read(6, "ignore", height=16, width=24).shape == (16, 24, 3)

    @pytest.mark.parametrize(("orientation", "size"), [(3, {"height": 16, "width": 24}), (2, {}), (6, {})])
    def test_that_do_not_tell(self, read, orientation, size):
        with pytest.raises(InputError, match=rf"orientation {orientation} .*--data.exif apply"):
            read(orientation, **size)
        assert read(orientation, "apply", **size).shape == ((24, 16, 3) if orientation == 6 else (16, 24, 3))

    def test_without_orientation(self, read):
        assert read(1).shape == (16, 24, 3)


def test_shards_hold_what_was_read(tmp_path):
    """They were read without a word by a recipe that turns images in another way."""
    from data.shards.sharding import shard

    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        save(tmp_path / split, 3, stored())
    section = SegmentationData(
        root=tmp_path,
        train="train/images",
        train_labels="train/labels",
        val="val/images",
        val_labels="val/labels",
        exif="ignore",
    )
    sharded = shard(section, tmp_path / "shards", ("a", "b"))
    assert overlaps(open_split(sharded, "train", ("a", "b"))[0])
    with pytest.raises(InputError, match=r"made with data\.exif ignore, but the recipe has apply"):
        open_split(replace(sharded, exif="apply"), "train", ("a", "b"))
