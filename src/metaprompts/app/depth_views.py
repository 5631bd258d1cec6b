"""The views of a depth prediction: photo and depth, distances, and a surface in 3-D."""

import math
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from metaprompts.app.measure import camera_of, draw_points, measure
from metaprompts.app.results import Result, view_scale
from metaprompts.app.views import Tab, View, photo_slider
from metaprompts.app.widgets import ONE_AT_A_TIME, reporting
from metaprompts.data.io.intrinsics import Intrinsics
from metaprompts.errors import InputError
from metaprompts.visualize.depth import color_depth
from metaprompts.visualize.point_cloud import PointCloud

_COLORS, _MARKS = 24, 5
_VERTICES = 50_000
_HINT = "Click two points of the photo to measure the distance between them."


def slider_view(tab: Tab) -> View:
    """Photo and depth under a slider, with the scale of the colors."""
    with gr.Tab("Depth", id="main"):
        slider = photo_slider(tab, "depth")
        bar = gr.HTML(elem_id=f"bar-{tab.index}")
    return View(
        components=[slider, bar], update=lambda result: [(str(result.photo), str(result.shown)), _bar(result.facts())]
    )


def measure_view(tab: Tab, fov_x: Any) -> View:
    """The distance between two clicked points.

    Args:
        tab: the model's tab
        fov_x: the text box for the camera's horizontal field of view
    """
    with gr.Tab("Measure"):
        answer = gr.Markdown(_HINT, elem_classes="answer", elem_id=f"measured-{tab.index}")
        image = gr.Image(label="Photo", type="filepath", interactive=False, buttons=[], elem_id=f"measure-{tab.index}")
        camera = gr.Markdown(elem_classes="note")
        points = gr.State([])

    @reporting
    def click(current: str | None, earlier: list[tuple[int, int]], fov: str, event: gr.SelectData) -> Any:
        result = tab.results.get(current)
        x, y = (float(value) for value in event.index)
        shown = [*(earlier if len(earlier) == 1 else []), (x, y)]
        drawn = draw_points(Image.open(result.photo), shown)
        return drawn, shown, _measured(result, shown, _camera(result.facts(), fov))

    @reporting
    def again(current: str | None, shown: list[tuple[float, float]], fov: str) -> Any:
        if current is None:
            return gr.skip(), gr.skip()
        result = tab.results.get(current)
        facts = result.facts()
        used = _camera(facts, fov)
        return _measured(result, shown, used), _described(used, facts)

    image.select(
        click, [tab.current, points, fov_x], [image, points, answer], api_visibility="private", show_progress="hidden"
    )
    fov_x.blur(again, [tab.current, points, fov_x], [answer, camera], api_visibility="private")
    return View(
        components=[image, points, answer, camera],
        update=lambda result: [str(result.photo), [], _HINT, _described(_camera(f := result.facts(), ""), f)],
    )


def surface_view(tab: Tab, fov_x: Any) -> View:
    """The depth as a surface in 3-D, or, without trimesh, as a file of points."""
    has_surfaces = find_spec("trimesh") is not None
    with gr.Tab("3-D") as page:
        if has_surfaces:
            shown = gr.Model3D(
                label="Surface: drag to turn it, scroll to zoom",
                clear_color=(0.96, 0.97, 0.98, 1.0),
                height=520,
                elem_id=f"surface-{tab.index}",
                interactive=False,
            )
        else:
            gr.Markdown("This file contains points; to show a surface, run `pip install 'metaprompts[3d]'`.")
            shown = gr.File(label="Points", interactive=False, elem_id=f"surface-{tab.index}")
        camera = gr.Markdown(elem_classes="note")

    @reporting
    def build(current: str | None, fov: str) -> Any:
        if current is None:
            return gr.skip(), gr.skip()
        result = tab.results.get(current)
        facts = result.facts()
        used = _camera(facts, fov)
        name = f"image_surface_{used.fov_x_deg(facts['width']):.2f}.{'glb' if has_surfaces else 'ply'}"
        path = result.folder / name
        if not path.is_file():
            _for_page(PointCloud.from_depth(np.array(result.depth_m()), result.image(), used), path).save(path)
        return str(path), _described(used, facts)

    page.select(build, [tab.current, fov_x], [shown, camera], api_visibility="private", **ONE_AT_A_TIME)
    return View(components=[shown, camera], update=lambda result: [None, ""])


def fov_field() -> Any:
    """The field for the camera's horizontal field of view."""
    return gr.Textbox(
        label="Camera: horizontal field of view, degrees",
        info="For distances and 3-D.",
        placeholder="from EXIF, else 60 along the longer side",
        max_lines=1,
    )


def _degrees(text: str) -> float | None:
    try:
        return float(text.replace(",", ".").strip(" °")) if text.strip() else None
    except ValueError as error:
        raise InputError(f"the field of view is {text!r}; expected degrees, such as 55") from error


def _camera(facts: dict[str, Any], fov: str) -> Intrinsics:
    return camera_of(_degrees(fov), (facts["height"], facts["width"]), (facts["fov_x_deg"], facts["camera"]))


def _described(camera: Intrinsics, facts: dict[str, Any]) -> str:
    return f"Camera: {camera.fov_x_deg(facts['width']):.1f} degrees horizontally ({camera.source})"


def _for_page(cloud: PointCloud, path: Path) -> PointCloud:
    """A surface that browsers draw smoothly: its texture keeps the resolution of the photo."""
    step = math.ceil(math.sqrt(cloud.kept.size / _VERTICES)) if path.suffix == ".glb" else 1
    return replace(cloud, points_m=cloud.points_m[::step, ::step], kept=cloud.kept[::step, ::step])


def _measured(result: Result, shown: list[tuple[float, float]], camera: Intrinsics) -> str:
    """The answer for the points clicked so far, in pixels of the shown photo."""
    depth_m = result.depth_m()
    scale = view_scale(depth_m.shape)
    places = [_pixel(point, scale, depth_m.shape) for point in shown]
    if not places:
        return _HINT
    if len(places) == 1:
        column, row = places[0]
        return f"Depth **{depth_m[row, column]:.2f} m**. Click a second point."
    found = measure(depth_m, places[0], places[1], camera)
    one, other = found.depths_m
    return f"Distance **{found.distance_m:.2f} m**; depths {one:.2f} m and {other:.2f} m."


def _pixel(point: tuple[float, float], scale: float, size: tuple[int, ...]) -> tuple[int, int]:
    height, width = size
    column, row = (int(value / scale) for value in point)
    return min(max(column, 0), width - 1), min(max(row, 0), height - 1)


def _bar(facts: dict[str, Any]) -> str:
    """A color bar labeled in meters, as HTML."""
    near, far = facts["near_m"], facts["far_m"]
    row = color_depth(np.linspace(max(near, 1e-6), max(far, near, 2e-6), _COLORS)[None], near, far)[0]
    colors = ", ".join(f"#{bytes(color).hex()}" for color in row)
    marks = "".join(f"<span>{depth:.2f} m</span>" for depth in np.linspace(near, far, _MARKS))
    return (
        f'<div class="bar"><div class="bar-colors" style="background: linear-gradient(to right, {colors})"></div>'
        f'<div class="bar-marks">{marks}</div></div>'
    )
