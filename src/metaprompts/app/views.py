"""The interface of views, and the views that all tasks have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from metaprompts.app.model_process import ModelProcess
from metaprompts.app.results import Result, Results
from metaprompts.app.settings import ModelFacts
from metaprompts.app.widgets import ONE_AT_A_TIME, reporting


@dataclass(frozen=True, kw_only=True, eq=False)
class Tab:
    """The tab of a model.

    Attributes:
        facts: the model
        index: index of the model in ``models``
        models: the process that runs the models
        results: the folders of predictions
        current: the page's current prediction, given by the name of its folder; None before the first prediction
    """

    facts: ModelFacts
    index: int
    models: ModelProcess
    results: Results
    current: gr.State

    def call(self, name: str, folder: Path, *arguments: Any) -> Any:
        """Call the model, see `ModelProcess.call`."""
        return self.models.call(self.index, name, folder, *arguments)


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """The components of a view, and a function that gives their values for a prediction.

    Attributes:
        components: the components, whose values change with every prediction
        update: prediction -> the new value of each component
    """

    components: Sequence[Any]
    update: Callable[[Result], Sequence[Any]] = field(repr=False)


def photo_slider(tab: Tab, what: str) -> gr.ImageSlider:
    """The photo and a prediction of the same size under a slider."""
    label, name = f"Photo | {what}", _id(tab, "slider")
    return gr.ImageSlider(label=label, type="filepath", interactive=False, elem_id=name, max_height=640)


def prompts_view(tab: Tab) -> View:
    """The response of a meta prompt, with a slider over the prompts."""
    with gr.Tab("Meta prompts") as page:
        gr.Markdown(
            "Where one of the model's learned meta prompts responds: dark blue least, dark red most. The first one "
            "shown responds most clearly.",
            elem_classes="note",
        )
        number = gr.Slider(0, tab.facts.prompts - 1, value=0, step=1, label="Meta prompt", elem_id=_id(tab, "prompt"))
        image = gr.Image(label="Heatmap", interactive=False, type="filepath", elem_id=_id(tab, "heatmap"))

    @reporting
    def draw(current: str | None, prompt: float | None) -> Any:
        if current is None:
            return gr.skip(), gr.skip()
        result = tab.results.get(current)
        shown = tab.call("heatmap", result.folder, None if prompt is None else int(prompt))
        return (shown if prompt is None else gr.skip()), str(result.folder / f"heatmap_{shown}.jpg")

    @reporting
    def draw_first(current: str | None, shown: str | None) -> Any:
        return draw(current, None) if shown is None else (gr.skip(), gr.skip())

    private: dict[str, Any] = {"api_visibility": "private", **ONE_AT_A_TIME}
    page.select(draw_first, [tab.current, image], [number, image], **private)
    number.release(draw, [tab.current, number], [number, image], **private)
    return View(components=[image], update=lambda result: [None])


def steps_view(tab: Tab) -> View:
    """The predictions after each refinement step."""
    with gr.Tab("Steps") as page:
        gr.Markdown(
            f"The model refines its prediction in {tab.facts.steps} steps; these are the predictions after each step.",
            elem_classes="note",
        )
        gallery = gr.Gallery(
            label="Refinement steps", columns=min(3, tab.facts.steps), interactive=False, elem_id=_id(tab, "steps")
        )

    @reporting
    def draw(current: str | None, shown: Any) -> Any:
        if current is None or shown:
            return gr.skip()
        folder = tab.results.get(current).folder
        count = tab.call("steps", folder)
        return [(str(folder / f"step_{step}.jpg"), f"step {step} of {count}") for step in range(1, count + 1)]

    page.select(draw, [tab.current, gallery], gallery, api_visibility="private", **ONE_AT_A_TIME)
    return View(components=[gallery], update=lambda result: [None])


def files_view(tab: Tab) -> View:
    """The files that ``metaprompts predict`` writes."""
    with gr.Tab("Files"):
        gr.Markdown("The files that `metaprompts predict` writes for this image.", elem_classes="note")
        files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id=_id(tab, "files"))
    return View(components=[files], update=lambda result: [result.downloads()])


def _id(tab: Tab, name: str) -> str:
    return f"{name}-{tab.index}"
