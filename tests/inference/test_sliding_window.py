from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.oracles import mm_slide
from metaprompts.errors import InputError
from metaprompts.tasks.sliding_window import predict_windows, slide_logits, slide_rows, window_starts

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"


def ramp(height, width):
    """An image whose red is the column and whose green is the row."""
    columns, rows = torch.arange(width).expand(height, width), torch.arange(height)[:, None].expand(height, width)
    return torch.stack([columns, rows, torch.zeros_like(rows)]).float()[None]


class Recorder:
    """Predicts red plus the column inside the window, and remembers where each window came from."""

    def __init__(self):
        self.corners = []
        self.crops = []

    def __call__(self, crops):
        self.crops.append(len(crops))
        self.corners += [(int(crop[1].min()), int(crop[0].min())) for crop in crops]
        return crops[:, :1] + torch.arange(crops.shape[-1])


def released_windows(predict, images, windows, flip):
    """The released inference in its own words: all windows in one batch, flips averaged, sums divided by counts."""
    _, _, height, width = images.shape
    step = (width - height) // (windows - 1)
    batch = torch.cat([images[..., i * step : i * step + height] for i in range(windows)])
    predicted = predict(batch)
    if flip:
        predicted = (predicted + predict(batch.flip(3)).flip(3)) / 2
    total, count = torch.zeros(1, 1, height, width), torch.zeros(1, 1, height, width)
    for i in range(windows):
        total[..., i * step : i * step + height] += predicted[i]
        count[..., i * step : i * step + height] += 1
    return total / count


def test_windows_by_hand():
    """4 rows, 6 columns, 2 windows: columns 0-3 and 2-5; the window's own column 0..3 is added to the image's."""
    recorder = Recorder()
    depth = predict_windows(recorder, ramp(4, 6), windows=2, flip=False)
    assert recorder.corners == [(0, 0), (0, 2)]
    assert depth.shape == (1, 1, 4, 6)
    # columns 2 and 3 lie in both windows: 2 + (2 + 0) / 2 and 3 + (3 + 1) / 2
    assert depth[0, 0, 0].tolist() == [0, 2, 3, 5, 6, 8]


def test_mirrored_images_are_averaged():
    """In the mirrored image column c is column W - 1 - c of the window: the two ramps average to a constant 1.5."""
    depth = predict_windows(Recorder(), ramp(4, 4), windows=2, flip=True)
    assert depth[0, 0, 0].tolist() == [1.5, 2.5, 3.5, 4.5]


@pytest.mark.parametrize(("size", "windows"), [((5, 12), 2), ((5, 12), 8), ((7, 14), 4)])
@pytest.mark.parametrize("flip", [False, True])
def test_windows_equal_the_released_inference_where_it_is_defined(size, windows, flip):
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    released = released_windows(Recorder(), images, windows, flip)
    ours = predict_windows(Recorder(), images, windows=windows, flip=flip)
    defined = ~released.isnan()
    assert defined.any()
    torch.testing.assert_close(ours[defined], released[defined])
    assert not ours.isnan().any()


@pytest.mark.parametrize(("name", "windows"), [("nyu_tiny_1x96x128", 2), ("kitti_tiny_1x64x220", 16)])
def test_windows_leave_out_the_columns_that_the_released_code_leaves_out(name, windows):
    path = GOLDEN / f"tta_depth_{name}.npz"
    if not path.exists():
        pytest.skip("the outputs of the released code are not next to this checkout")
    pred = np.load(path)["pred"]
    height, width = pred.shape[-2:]
    covered = np.zeros(width, dtype=bool)
    for start in window_starts(width, height, windows):
        covered[start : start + height] = True
    assert (covered == ~np.isnan(pred).any((0, 1, 2))).all()


def test_kitti_has_nine_uncovered_columns_and_one_more_window_gives_only_those():
    recorder = Recorder()
    starts = window_starts(1216, 352, 16)
    assert len(starts) == 16
    assert starts[-1] + 352 == 1216 - 9
    depth = predict_windows(recorder, ramp(352, 1216), windows=16, flip=False)
    assert [column for _, column in recorder.corners] == [*starts, 1216 - 352]
    columns = torch.arange(1216)
    assert depth[0, 0, 7, -9:].equal((columns + columns - (1216 - 352)).float()[-9:])
    # the last covered column is untouched by the extra window: it is column 351 of window 16
    assert depth[0, 0, 7, -10] == columns[-10] + 351


def test_very_wide_images_have_no_gaps():
    """2 windows on 3 x 11 leave columns 3 to 7 in the middle uncovered."""
    depth = predict_windows(Recorder(), ramp(3, 11), windows=2, flip=False)
    assert depth[0, 0, 0].tolist() == [0, 2, 4, 3, 5, 7, 6, 8, 8, 10, 12]


def test_upright_images_are_walked_downward():
    recorder = Recorder()
    depth = predict_windows(recorder, ramp(6, 4), windows=2, flip=False)
    assert recorder.corners == [(0, 0), (2, 0)]
    assert depth[0, 0, 5].tolist() == [0, 2, 4, 6]


def test_square_images_are_predicted_once():
    recorder = Recorder()
    predict_windows(recorder, ramp(4, 4), windows=16, flip=False)
    assert recorder.crops == [1]


def test_without_windows_the_whole_image_is_predicted():
    recorder = Recorder()
    assert predict_windows(recorder, ramp(4, 9), windows=None, flip=False).equal(ramp(4, 9)[:, :1] * 2)
    assert recorder.crops == [1]


def test_smaller_output_is_brought_to_the_window():
    depth = predict_windows(lambda crops: crops[:, :1, :-3, :-3] * 0 + 7, ramp(11, 20), windows=2, flip=True)
    assert depth.shape == (1, 1, 11, 20)
    torch.testing.assert_close(depth, torch.full_like(depth, 7))


def test_too_few_windows_are_refused():
    with pytest.raises(InputError, match="at least 2"):
        predict_windows(Recorder(), ramp(4, 9), windows=1, flip=False)


def two_logits(crops):
    """Depends on the place inside the window, so that averaging wrongly shows."""
    place = torch.arange(crops.shape[-1]) + 10.0 * torch.arange(crops.shape[-2])[:, None]
    return torch.cat([crops[:, :1] * place, crops[:, 1:2] - place], 1)


@pytest.mark.parametrize("size", [(8, 8), (9, 17), (5, 13), (3, 3), (16, 6)])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_sliding_equals_mmsegmentation(size, batch):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    ours = slide_logits(two_logits, images, window=(8, 6), stride=(5, 4), batch=batch)
    torch.testing.assert_close(ours, mm_slide(two_logits, images, (8, 6), (5, 4)))


def test_sliding_never_predicts_more_crops_than_asked():
    recorder = Recorder()
    slide_logits(recorder, ramp(8, 20).repeat(2, 1, 1, 1), window=(8, 8), stride=(4, 4), batch=5)
    assert recorder.crops == [4, 4]
    assert [column for _, column in recorder.corners] == [0, 0, 4, 4, 8, 8, 12, 12]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": (9, 4)}, "the stride is 9 down and 4 across; expected .* a stride no larger than the window"),
        ({"stride": (0, 4)}, "a stride no larger than the window"),
        ({"batch": 0}, "the batch is 0; expected at least 1 window"),
    ],
)
def test_strides_that_leave_gaps_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        slide_logits(two_logits, ramp(9, 9), **({"window": (8, 8), "stride": (4, 4)} | options))


@pytest.mark.parametrize("size", [(8, 8), (9, 17), (5, 13), (3, 3), (16, 6), (40, 9)])
@pytest.mark.parametrize("stride", [(5, 4), (1, 6), (8, 6), (3, 2)])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_rows_are_given_away_as_sliding_at_once_has_them(size, stride, batch):
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    whole = slide_logits(two_logits, image[None], window=(8, 6), stride=stride, batch=batch)[0]

    given = [
        (first, rows.clone())
        for first, rows in slide_rows(two_logits, image, window=(8, 6), stride=stride, batch=batch)
    ]

    assert [first for first, _ in given] == [0, *np.cumsum([rows.shape[1] for _, rows in given])[:-1]]
    assert torch.cat([rows for _, rows in given], dim=1).equal(whole)


def test_rows_are_held_no_longer_than_windows_reach_them():
    sizes = [rows.shape[1] for _, rows in slide_rows(two_logits, ramp(40, 9)[0], window=(8, 6), stride=(5, 4))]
    assert sizes == [5, 5, 5, 5, 5, 5, 2, 8]


def test_rows_of_strides_that_leave_gaps_are_refused():
    with pytest.raises(InputError, match="stride no larger"):
        next(slide_rows(two_logits, ramp(9, 9)[0], window=(8, 8), stride=(9, 4)))
