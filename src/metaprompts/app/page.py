"""The page: a tab for each model."""

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from metaprompts.app.depth_views import fov_field, measure_view, slider_view, surface_view
from metaprompts.app.model_process import ModelProcess
from metaprompts.app.other_views import classes_view, image_view, normals_view, people_view
from metaprompts.app.results import Result, Results
from metaprompts.app.settings import Limits, ModelFacts
from metaprompts.app.views import Tab, View, files_view, prompts_view, steps_view
from metaprompts.app.widgets import ONE_AT_A_TIME, Photo, reporting
from metaprompts.errors import InputError

_TITLES = {"segmentation": "Segmentation", "depth": "Depth", "pose": "Pose", "normals": "Normals"}
_VIEWS = {"segmentation": classes_view, "pose": people_view, "normals": normals_view}


def build_page(
    models: ModelProcess, facts: Sequence[ModelFacts], results: Results, limits: Limits, examples: Sequence[Path]
) -> gr.Blocks:
    """Build the page.

    Args:
        models: the process that runs the models
        facts: the models
        results: the folders of predictions
        limits: shown on the page
        examples: images to try
    """
    with gr.Blocks(title="metaprompts", analytics_enabled=False, delete_cache=(600, 7200)) as page:
        gr.Markdown(
            "# metaprompts\nStable Diffusion as a perception model: choose an image, or one of the examples.",
            elem_id="title",
        )
        with gr.Tabs():
            for index, (each, title, name) in enumerate(zip(facts, tab_titles(facts), api_names(facts), strict=True)):
                with gr.Tab(title, id=name):
                    tab = Tab(facts=each, index=index, models=models, results=results, current=gr.State(None))
                    _fill(tab, name, limits, examples)
    return page


def tab_titles(facts: Sequence[ModelFacts]) -> list[str]:
    """The task of each model, with the model's name where several have the same task."""
    alike = Counter(each.task for each in facts)
    titles = [_TITLES.get(each.task, each.task) for each in facts]
    return [
        title if alike[each.task] == 1 else f"{title}: {Path(each.name).name}"
        for title, each in zip(titles, facts, strict=True)
    ]


def api_names(facts: Sequence[ModelFacts]) -> list[str]:
    """A unique name for each model's API: its task, or its task and a number."""
    alike, seen, names = Counter(each.task for each in facts), Counter[str](), list[str]()
    for each in facts:
        seen[each.task] += 1
        plain = re.sub(r"\W+", "_", each.task)
        names.append(plain if alike[each.task] == 1 else f"{plain}_{seen[each.task]}")
    return names


def _fill(tab: Tab, api_name: str, limits: Limits, examples: Sequence[Path]) -> None:
    caption = fov_x = None
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            photo = Photo(
                label="Image",
                sources=["upload", "clipboard"],
                height=260,
                elem_id=f"photo-{tab.index}",
                buttons=[],
                placeholder="Drop an image here, or click to upload",
            )
            if tab.facts.reads_captions:
                caption = gr.Textbox(label="Caption of the image", max_lines=2)
            button = gr.Button("Predict", variant="primary", elem_id=f"predict-{tab.index}")
            chosen = gr.Examples([[str(path)] for path in examples], [photo], label="Examples: generated scenes")
            if tab.facts.task == "depth":
                fov_x = fov_field()
            gr.Markdown(
                f"Images of up to {limits.upload_bytes / 1e6:g} MB and {limits.side_px} pixels per side.\n\n"
                f"Model: {tab.facts.name}, {tab.facts.engine.partition(' (')[0]}",
                elem_classes="note",
            )
        with gr.Column(scale=7, min_width=420), gr.Tabs(selected="main") as pages:
            views = _views(tab, fov_x)
    _connect(tab, api_name, (photo, caption), (button, chosen), pages, views)


def _views(tab: Tab, fov_x: Any) -> list[View]:
    if tab.facts.task == "depth":
        views = [slider_view(tab), measure_view(tab, fov_x), surface_view(tab, fov_x)]
    else:
        views = [_VIEWS.get(tab.facts.task, image_view)(tab)]
    if tab.facts.prompts:
        views.append(prompts_view(tab))
    if tab.facts.steps > 1:
        views.append(steps_view(tab))
    return [*views, files_view(tab)]


def _connect(
    tab: Tab, api_name: str, inputs: tuple[Any, Any], triggers: tuple[Any, Any], pages: Any, views: list[View]
) -> None:
    """Predict when an image is chosen, when the button is pressed, and on API calls."""
    photo, caption = inputs
    button, chosen = triggers
    given = [photo] if caption is None else [photo, caption]
    components = [component for view in views for component in view.components]

    @reporting
    def predict(upload: str | None, *caption: str) -> list[Any]:
        result = _predict(tab, upload, *caption)
        values = [value for view in views for value in view.update(result)]
        return [result.folder.name, gr.Tabs(selected="main"), *values]

    @reporting
    def predict_for_api(upload: str | None, *caption: str) -> tuple[list[str], dict[str, Any]]:
        result = _predict(tab, upload, *caption)
        return result.downloads(), result.facts()

    settings: dict[str, Any] = {
        "inputs": given,
        "outputs": [tab.current, pages, *components],
        "api_visibility": "private",
        "show_progress_on": [components[0]],
        **ONE_AT_A_TIME,
    }
    button.click(predict, **settings)
    if caption is None:
        photo.upload(predict, **settings)
        chosen.load_input_event.success(predict, **settings)
    numbers = gr.JSON(visible=False, label="numbers")
    gr.Button(visible=False).click(
        predict_for_api,
        given,
        [views[-1].components[0], numbers],
        api_name=api_name,
        api_description=f"Predict {tab.facts.task}: the files that metaprompts predict writes, and its numbers.",
        **ONE_AT_A_TIME,
    )


def _predict(tab: Tab, upload: str | None, caption: str | None = None) -> Result:
    if upload is None:
        raise InputError("no image selected: upload one, or click an example")
    result = tab.results.new()
    try:
        tab.models.call(tab.index, "predict", Path(upload), result.folder, caption)
    except BaseException:
        shutil.rmtree(result.folder, ignore_errors=True)
        raise
    return result
