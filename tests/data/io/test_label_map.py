"""What mask values and colors stand for, as recipes say it."""

import numpy as np
import pytest
from PIL import Image

from labeled_folders import segmentation_folder
from metaprompts.data.config.segmentation import SegmentationData
from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe
from metaprompts.utils.schema import from_dict

COLORS = np.array([[[0, 0, 0], [255, 0, 0], [255, 255, 255]]], np.uint8)


def labels(folder, mask, classes=("background", "object"), **settings):
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    image.save(folder / "masks/a.png")
    Image.new("RGB", image.size).save(folder / "images/a.png")
    return segmentation_folder(folder, "images", "masks", classes=classes, **settings)[0].labels.tolist()


class TestValues:
    def test_255_can_be_a_class(self, tmp_path):
        """A mask of 0/255 trained to loss 0.0000 and mIoU 1.0000: 255 was ignored, whatever was said."""
        mask = np.array([[0, 255]], np.uint8)
        assert labels(tmp_path, mask) == [[0, 255]]
        assert labels(tmp_path, mask, label_map={"255": "object"}) == [[0, 1]]
        assert labels(tmp_path, mask, label_map={"0": 1, "255": 0}) == [[1, 0]]

    def test_a_class_that_is_mapped_loses_its_own_value(self, tmp_path):
        """Else 1=0,2=1 would silently join the values 0 and 1 in the first class."""
        with pytest.raises(InputError, match=r"a.png holds 0; .*--data.label_map 0=CLASS"):
            labels(tmp_path, np.array([[0, 1, 2]], np.uint8), label_map={"1": 0, "2": 1})
        assert labels(tmp_path, np.array([[0, 1, 2]], np.uint8), label_map={"1": 0, "2": 1, "0": "ignored"}) == [
            [255, 0, 1]
        ]

    def test_every_other_value(self, tmp_path):
        mask = np.array([[0, 7, 900, 65535]], np.uint16)
        assert labels(tmp_path, mask, label_map={"*": "ignored", "7": "object"}) == [[0, 1, 255, 255]]
        assert labels(tmp_path, mask, label_map={"*": "object"}) == [[0, 1, 1, 1]]

    def test_several_values_of_one_class_and_zero_reduced(self, tmp_path):
        mask = np.array([[0, 1, 2, 3]], np.uint8)
        settings = {"label_map": {"2": "object", "3": "object"}, "reduce_zero_label": True}
        assert labels(tmp_path, mask, **settings) == [[255, 0, 1, 1]]


class TestNamedClasses:
    """`micro_segmentation` ignored the value 11 of anybody's masks: of 13 named classes one was never trained."""

    def test_no_recipe_for_own_data_ignores_a_value(self):
        assert read_recipe("micro_segmentation").data.ignored == ()

    @pytest.mark.parametrize(
        "settings", [{"ignored": (11,)}, {"ignored": (0,)}, {"ignored": (13,), "reduce_zero_label": True}]
    )
    def test_a_named_class_cannot_be_ignored(self, settings):
        classes = tuple(f"c{index}" for index in range(13))
        value = settings["ignored"][0]
        name = classes[value - settings.get("reduce_zero_label", False)]
        with pytest.raises(InputError, match=rf"data.ignored has {value}, which is class '{name}' of task.classes"):
            SegmentationData(**settings).parts("train", classes)

    @pytest.mark.parametrize("label_map", [{"1": "ignored"}, {"1": 0}, {"255,0,0": 0, "0,0,0": "ignored"}])
    def test_a_map_leaves_a_value_to_every_class(self, label_map):
        with pytest.raises(InputError, match=r"no mask value is mapped to class 'b': map one in data.label_map"):
            SegmentationData(label_map=label_map).parts("train", ("a", "b"))

    def test_a_single_class_learns_nothing(self):
        with pytest.raises(InputError, match=r"task.classes has only 'crack'.*background,crack.*--data.label_map"):
            read_recipe("micro_segmentation", ["--task.classes", "crack"])

    def test_none_is_ignored(self):
        """--data.ignored none was refused, though every other key takes none."""
        assert read_recipe("micro_segmentation", ["--data.ignored", "none"]).data.ignored == ()


MAP = {"0,0,0": "background", "#FF0000": "object", "(255, 255, 255)": "ignored"}


class TestColors:
    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
    def test_of_color_and_palette_masks(self, tmp_path, mode):
        image = Image.fromarray(COLORS)
        image = image.quantize(3) if mode == "P" else image.convert(mode)
        assert image.mode == mode
        assert labels(tmp_path, image, label_map=MAP) == [[0, 1, 255]]

    def test_of_gray_masks(self, tmp_path):
        assert labels(tmp_path, COLORS[..., 1], label_map={"0,0,0": 0, "255,255,255": 1}) == [[0, 0, 1]]

    def test_unknown_colors_are_named(self, tmp_path):
        with pytest.raises(
            InputError, match=r"a.png holds #ffffff; expected colors of .*--data.label_map '#ffffff=CLASS'"
        ):
            labels(tmp_path, COLORS, label_map={"0,0,0": 0, "255,0,0": 1})
        assert labels(tmp_path, COLORS, label_map={"0,0,0": 0, "255,0,0": 1, "*": 0}) == [[0, 1, 0]]

    def test_without_a_map_the_cure_is_reported(self, tmp_path):
        with pytest.raises(InputError, match=r"is RGB 1x3; .*--data.label_map 0,0,0=CLASS,255,0,0=CLASS"):
            labels(tmp_path, COLORS)


WANTED = {"0": "background", "255": "object", "7": 1}


class TestSpelling:
    @pytest.mark.parametrize(
        "text",
        ["0=background,255=object,7=1", " 0 = background , 255=object,7=1", '{0 = "background", 255="object", 7=1}'],
    )
    def test_on_a_command_line_as_in_toml(self, text):
        assert from_dict(SegmentationData, {"label_map": text}).label_map == WANTED
        assert from_dict(SegmentationData, {"label_map": WANTED}).label_map == WANTED

    def test_commas_of_colors(self):
        found = from_dict(SegmentationData, {"label_map": "0,0,0=traffic light,255,0,0=1"}).label_map
        assert found == {"0,0,0": "traffic light", "255,0,0": 1}

    def test_none(self):
        assert from_dict(SegmentationData, {"label_map": "none"}).label_map is None

    @pytest.mark.parametrize("text", ["0", "=1", "0=", "0=1,0=2", "0=1,2", ""])
    def test_what_is_no_map(self, text):
        with pytest.raises(InputError, match=r"data.label_map is .*KEY=VALUE"):
            from_dict(SegmentationData, {"label_map": text}, "data")

    @pytest.mark.parametrize(
        ("label_map", "words"),
        [
            ({"1": "c"}, r"has 1=c; expected one of task.classes \(a, b\), an index from 0 to 1, or ignored"),
            ({"1": 2}, "has 1=2; expected"),
            ({"1": True}, "has 1=True; expected"),
            ({"red": 1}, "has 'red'; expected a mask's value or color"),
            ({"300,0,0": 1}, "has '300,0,0'"),
            ({"-1": 1}, "has '-1'"),
            ({"70000": 1}, "70000 is outside 0 to 65535"),
            ({"255,0,0": 0, "#ff0000": 1}, "maps #ff0000 to two classes"),
            ({"255,0,0": 0, "3": 1}, r"has both values \(3\) and colors"),
        ],
    )
    def test_what_cannot_be(self, label_map, words):
        with pytest.raises(InputError, match=words):
            SegmentationData(label_map=label_map).parts("train", ("a", "b"))

    def test_next_to_other_keys(self):
        with pytest.raises(InputError, match=r"data.ignored has 7, but data.label_map gives it a class"):
            SegmentationData(label_map={"7": 1}, ignored=(7,)).parts("train", ("a", "b"))
        with pytest.raises(InputError, match=r"maps colors, but data.ignored"):
            SegmentationData(label_map={"0,0,0": 0}, ignored=(7,)).parts("train", ("a", "b"))
        with pytest.raises(InputError, match=r"data.label_map is .*layout is 'ade20k'"):
            SegmentationData(layout="ade20k", label_map={"7": 1})
