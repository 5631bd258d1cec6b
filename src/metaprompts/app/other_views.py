"""Views of classes, people and surface normals."""

import html
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from metaprompts.app.results import STEM, Result, view_scale
from metaprompts.app.views import Tab, View, photo_slider

# The photo stays visible below the colors of classes.
_OPACITY = np.float32(0.65)
_OUTLINE_PX = 3


def classes_view(tab: Tab) -> View:
    """The photo tinted by class, with names and shares."""
    with gr.Tab("Classes", id="main"):
        gr.Markdown("Hover over a class below the image to see it alone.", elem_classes="note")
        image = gr.AnnotatedImage(label="Classes and their shares", elem_id=f"classes-{tab.index}")
    return View(components=[image], update=lambda result: [_classes(result)])


def people_view(tab: Tab) -> View:
    """The skeletons, with a box and a score for each person."""
    with gr.Tab("People", id="main"):
        image = gr.AnnotatedImage(label="People", elem_id=f"people-{tab.index}")
        table = gr.HTML(elem_id=f"scores-{tab.index}")
    return View(components=[image, table], update=lambda result: [_people(result), _scores(result.facts())])


def normals_view(tab: Tab) -> View:
    """Photo and surface normals under a slider."""
    with gr.Tab("Normals", id="main"):
        slider = photo_slider(tab, "normals")
        gr.Markdown("Red grows to the right, green upward, blue toward the camera.", elem_classes="note")
    return View(components=[slider], update=lambda result: [(str(result.photo), str(result.shown))])


def image_view(tab: Tab) -> View:
    """The visualization of a prediction of any other task."""
    with gr.Tab("Prediction", id="main"):
        image = gr.Image(label=tab.facts.task, type="filepath", interactive=False)
    return View(components=[image], update=lambda result: [str(result.shown)])


def _classes(result: Result) -> Any:
    classes = result.facts()["classes"]
    with Image.open(result.photo) as photo, Image.open(result.files / f"{STEM}_labels.png") as stored:
        labels = np.asarray(stored.resize(photo.size, Image.Resampling.NEAREST))
    names = [f"{each['name']} {_percent(each['share'])}" for each in classes]
    indices = [each["index"] for each in classes]
    masks = [(_OPACITY * (labels == index), name) for index, name in zip(indices, names, strict=True)]
    colors = {name: each["color"] for name, each in zip(names, classes, strict=True)}
    return gr.AnnotatedImage(value=(str(result.photo), masks), color_map=colors)


def _people(result: Result) -> Any:
    facts = result.facts()
    scale = view_scale((facts["height"], facts["width"]))
    with Image.open(result.shown) as shown:
        size = shown.size
    outlines = []
    for number, person in enumerate(facts["people"], 1):
        x, y, width, height = person["box_xywh"]
        corners = (scale * x, scale * y, scale * (x + width) - 1, scale * (y + height) - 1)
        outlines.append((_outline(corners, size), f"{number}: {person['score']:.2f}"))
    return str(result.shown), outlines


def _outline(corners: tuple[float, float, float, float], size: tuple[int, int]) -> NDArray[np.float32]:
    """A mask of a box's border: a filled box would hide the person."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle(corners, outline=1, width=_OUTLINE_PX)
    return np.asarray(mask).astype(np.float32)


def _scores(facts: dict[str, Any]) -> str:
    if not facts["people"]:
        return '<p class="note">No people were found in this image.</p>'
    rows = "".join(
        f"<tr><td>{number}</td><td>{person['score']:.2f}</td>"
        f"<td>{person['joints_drawn']} of {facts['joints']}</td>"
        f"<td>{person['box_xywh'][2]:.0f} x {person['box_xywh'][3]:.0f} pixels</td></tr>"
        for number, person in enumerate(facts["people"], 1)
    )
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in ("Person", "Score", "Joints drawn", "Box"))
    return f'<table class="people"><tr>{heads}</tr>{rows}</table>'


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"
