"""The report: one file, whole, that shows what it was given."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from metaprompts.demo.live_training import Point
from metaprompts.demo.report import (
    Change,
    Gallery,
    Report,
    Score,
    curve_svg,
    duration,
    image_url,
    verdict,
    write_report,
)


def image(value):
    return np.full((4, 6, 3), value, np.uint8)


def score(**values):
    return Score(task="depth", baseline_name="mean <depth>", **values)


def change(metric, better, before, after):
    return Change(metric=metric, better=better, before=before, after=after)


@pytest.fixture
def page(tmp_path):
    report = Report(
        scenes=12,
        overview=image(50),
        scores=[
            score(metric="d1", meaning="share & more", better="higher", model=0.75, baseline=0.5),
            score(metric="rmse", meaning="error", better="lower", model=3.0, baseline=2.0),
        ],
        galleries=[
            Gallery(
                title="Far & near",
                text="t",
                columns=("one", "two"),
                rows=[[image(10), image(200)]],
                names=["the first row"],
                legend=image(90),
            )
        ],
        curve=[Point(seconds=1.0, loss=2.0), Point(seconds=2.0, loss=1.0)],
        live=[change("d1", "higher", 0.1, 0.4)],
        live_gallery=Gallery(title="", text="", columns=("then",), rows=[[image(30)]], names=["afterwards"]),
        commands=[("try this", "metaprompts demo")],
    )
    write_report(report, tmp_path / "deep" / "report.html")
    return (tmp_path / "deep" / "report.html").read_text()


class Collector(HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.open, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.sources += [values[name] for name in ("src", "href") if name in values]
        if tag not in ("img", "meta", "polyline", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "polyline":
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_page_is_well_formed_and_needs_no_other_file(page):
    collector = Collector()
    collector.feed(page)
    assert collector.open == []
    # The overview, a row of two, a legend, one after the live training.
    assert len(collector.sources) == 5
    assert all(source.startswith("data:image/png;base64,") for source in collector.sources)
    assert not re.search(r"https?://", page)
    assert "@import" not in page
    assert "<script" not in page


def test_page_shows_numbers_and_escapes_words(page):
    collector = Collector()
    collector.feed(page)
    for shown in (
        "0.750",
        "0.500",
        "mean <depth>",
        "Far & near",
        "0.100",
        "0.400",
        "metaprompts demo",
        "12",
        "share & more",
        "the first row",
    ):
        assert shown in collector.text
    assert "mean <depth>" not in page


def test_the_live_training_comes_before_its_result(page):
    """The predictions of the minute of training stood above it."""
    assert page.index("0.400") < page.index("afterwards")


def test_two_steps_claim_nothing(page):
    """A busy machine did two of the live training's steps, and the report spoke of a model trained for a minute."""
    assert "2 steps in 2 seconds" in page
    assert "too few to learn anything" in page
    assert "improved" not in page


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ((0.5, 1.0), "All scores improved."),
        ((0.5, 3.0), "Of the scores, only d1 improved."),
        ((0.3, 3.0), "No score improved."),
        ((0.4, 2.0), "No score improved."),
    ],
)
def test_the_scores_decide_what_is_claimed(after, said):
    changes = [change("d1", "higher", 0.4, after[0]), change("rmse", "lower", 2.0, after[1])]
    assert verdict(50, changes) == said
    assert "too few" in verdict(49, changes)


def test_the_duration_is_the_measured_one():
    assert duration([Point(seconds=71.6, loss=1.0)]) == "1 step in 72 seconds"


def test_numbers_in_meters_say_so(page):
    assert "rmse (m)" in page


def test_only_a_better_number_is_marked(page):
    rows = re.findall(r"<tr>.*?</tr>", page, re.DOTALL)
    assert "won" in next(row for row in rows if "0.750" in row)
    assert "won" not in next(row for row in rows if "3.000" in row)


def test_images_are_kept_to_the_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    data = base64.b64decode(image_url(pixels).partition(",")[2])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_curve_goes_from_the_highest_loss_to_the_lowest():
    points = [Point(seconds=float(n), loss=10.0 - n) for n in range(1, 10)]
    curve = curve_svg(points, width=90, height=100)
    steps = [tuple(map(float, pair.split(","))) for pair in curve["steps"].split()]
    assert [x for x, _ in steps] == pytest.approx([10.0 * n for n in range(1, 10)])
    assert steps[0][1] == 0.0
    assert steps[-1][1] == 100.0
    # The mean of up to nine steps lags behind.
    mean = [float(pair.split(",")[1]) for pair in curve["mean"].split()]
    assert mean[-1] == pytest.approx((1 - (5.0 - 1.0) / (curve["top"] - 1.0)) * 100, abs=0.1)
