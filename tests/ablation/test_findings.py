"""What documents say in words of the studies is what the stored results say."""

import re
from pathlib import Path

import pytest

from metaprompts.ablation.report import estimate
from metaprompts.ablation.results import read_results
from metaprompts.ablation.runs import plan_text
from metaprompts.ablation.study import read_study

ROOT = Path(__file__).parents[2]
STUDIES = {path.stem: read_study(path) for path in sorted((ROOT / "studies").glob("*.toml"))}

# How a variant does against the full method, as the table of findings has it.
QUOTES = [
    ("interfaces", "segmentation", "label", "segmentation of scenes (by {worse:.3f} mIoU, p = {p:.3f})"),
    ("interfaces", "camvid", "label", "on average, for CamVid (p = {p:.2f})"),
    ("interfaces", "redkitchen", "label", "labels on RedKitchen (p = {p:.2f})"),
    ("interfaces", "depth", "caption", "favors captions, which here are always true (p = {p:.2f})"),
    ("rearrangement", "segmentation", "off", "for segmentation, equal to within {half_width:.3f} mIoU"),
    ("prompts", "segmentation", "N64", "for segmentation, they agree to within {better:.3f} mIoU"),
    ("time", "segmentation", "shared", "{better:.3f} mIoU better for segmentation (p = {p:.3f})"),
    ("time", "redkitchen", "shared", "for RedKitchen one vector is {worse:.3f} m worse (p = {p:.2f})"),
    ("trainable", "segmentation", "lora", "LoRA is worse by {worse:.2f} mIoU (p = {p:.3f})"),
    ("trainable", "depth", "lora", "with less certainty, by {worse:.2f} m (p = {p:.2f})"),
]


def differences(study, cell, variant):
    """Of a variant to the first one, seed by seed, above 0 where it is better."""
    made = STUDIES.get(study) or read_study(ROOT / f"studies/scripted/{study}.toml")
    found = read_results(made.runs, ROOT / "results" / study)
    place = next(one for one in made.cells if one.name == cell)
    own, first = (
        [found[f"{cell}--{name}--{seed}"]["scores"][place.metric] for seed in made.seeds]
        for name in (variant, made.variants[0].name)
    )
    sign = 1 if place.higher_is_better else -1
    return [sign * (one - other) for one, other in zip(own, first, strict=True)]


def difference(study, cell, variant):
    return estimate(differences(study, cell, variant))


def quoted(study, cell, variant, template):
    known = difference(study, cell, variant)
    return template.format(better=known.mean, worse=-known.mean, half_width=known.half_width, p=known.p_value)


@pytest.fixture(scope="module")
def text():
    return (ROOT / "docs/ablations.md").read_text(encoding="utf-8")


def test_every_number_of_the_findings_is_that_of_the_results(text):
    findings = text[text.index("| the paper's finding") : text.index("Three seeds, small models")]
    for quote in QUOTES:
        said = quoted(*quote)
        assert said in findings
        findings = findings.replace(said, "")
    # Only what was asked is reported: the level is not a result.
    assert re.findall(r"\d+\.\d+", findings) == ["0.05"]


@pytest.mark.parametrize("cell", ["segmentation", "depth"])
def test_predicted_labels_did_not_help(text, cell):
    """As the words above their table say."""
    assert "in every seed, both variants score worse than 50 labels alone, although no difference is" in " ".join(
        text.split()
    )
    for variant in ("pseudo", "confident"):
        assert max(differences("pseudo_labels", cell, variant)) < 0
        assert difference("pseudo_labels", cell, variant).p_value > 0.05
    assert min(differences("pseudo_labels", cell, "all")) > 0


def test_what_the_prior_is_worth_to_camvid():
    """In the words below its table."""
    prior = STUDIES["prior"]
    found = read_results(prior.runs, ROOT / "results/prior")
    with_prior, without = (
        [found[f"camvid--{name}--{seed}"]["scores"]["mIoU"] for seed in prior.seeds] for name in ("prior", "random")
    )
    worth = sorted(one - other for one, other in zip(with_prior, without, strict=True))
    text = " ".join((ROOT / "docs/micro.md").read_text(encoding="utf-8").split())
    assert f"every seed, but by {worth[0]:.2f} to {worth[-1]:.2f}" in text


@pytest.mark.parametrize(
    ("study", "variant", "cells", "sure"),
    [("steps", "K1", 5, 4), ("rearrangement", "off", 5, 0)],
)
def test_cells_are_counted_rightly(study, variant, cells, sure):
    """K = 1 is the best in all five cells, in four of them with p < 0.05; rearrangement makes no difference."""
    found = [difference(study, cell.name, variant) for cell in STUDIES[study].cells]
    assert len(found) == cells
    assert sum(one.p_value < 0.05 for one in found) == sure
    if sure:
        others = [difference(study, cell.name, "K2") for cell in STUDIES[study].cells]
        assert all(one.mean > max(0, other.mean) for one, other in zip(found, others, strict=True))


def test_the_plan_is_that_of_the_studies(text, tmp_path):
    *_, last = plan_text(list(STUDIES.values()), tmp_path, 2).splitlines()
    runs, hours = re.fullmatch(r"(\d+) distinct runs in total; about (\S+) hours with --processes 2", last).groups()
    assert f"{runs} distinct runs, take about {hours} hours with `--processes 2`" in " ".join(text.split())


def test_the_hours_are_those_of_the_results(text):
    """They were those of fewer runs, from before more were added."""
    seconds = {
        result["training"]: result["seconds"]
        for study in STUDIES.values()
        for result in read_results(study.runs, ROOT / "results" / study.name).values()
        if "seconds" in result
    }
    said = f"the optimizer steps of {len(seconds)} runs took {sum(seconds.values()) / 3600:.1f} hours on one thread"
    assert said in " ".join(text.split())
