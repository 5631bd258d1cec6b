import numpy as np
import pytest

from metaprompts.errors import InputError
from metaprompts.visualize.sheets import contact_sheet
from metaprompts.visualize.text import PAPER, fitted, stack_down, text_size


def plain(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def test_images_stand_in_the_middle_of_their_cells():
    """Cells of 40 x 60 with gaps of 8; a 20 x 60 image leaves 10 rows of paper above and below."""
    sheet = contact_sheet([[plain(40, 60, 0), plain(20, 60, 9)], [plain(80, 120, 5)]], cell=(40, 60))
    assert sheet.shape == (8 + 2 * 48, 8 + 2 * 68, 3)
    assert (sheet[8:48, 8:68] == 0).all()
    assert (sheet[18:38, 76:136] == 9).all()
    assert (sheet[8:18, 76:136] == PAPER).all()
    assert (sheet[56:96, 8:68] == 5).all()
    assert (sheet[56:96, 76:] == PAPER).all()


def test_captions_stand_below():
    without = contact_sheet([[plain(40, 60, 0)]], cell=(40, 60))
    sheet = contact_sheet([[plain(40, 60, 0)]], [["depth, and much more than fits"]], cell=(40, 60))
    caption = sheet[48:]
    assert len(sheet) > len(without)
    assert caption[:, 8:68].min() < 100
    assert (caption[:, 70:] == PAPER).all()


@pytest.mark.parametrize("size", [(1, 1), (20000, 50), (50, 20000)])
def test_any_size(size):
    sheet = contact_sheet([[plain(*size, 0)]], cell=(40, 60))
    assert sheet.shape == (56, 76, 3)
    assert sheet.min() == 0


def test_captions_must_be_nested_like_images():
    with pytest.raises(InputError, match="nested"):
        contact_sheet([[plain(4, 4, 0)]], [["a", "b"]])
    with pytest.raises(InputError, match="no images"):
        contact_sheet([[]])


def test_text_is_shortened_to_its_width():
    assert fitted("road", 200, 14) == "road"
    short = fitted("a long name of a class", 60, 14)
    assert short.endswith("…")
    assert text_size(short, 14)[0] <= 60
    assert fitted("road", 1, 14) == ""


def test_narrow_images_are_filled_up():
    stacked = stack_down(plain(2, 3, 1), plain(1, 5, 2))
    assert stacked.shape == (3, 5, 3)
    assert (stacked[:2, 3:] == PAPER).all()
