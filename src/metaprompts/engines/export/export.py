"""Export a model, compare the file with the model, and write example code."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from metaprompts.engines.adaptive_steps import warn_of_untrained_steps
from metaprompts.engines.export.formats import FORMATS, Format, write_connected
from metaprompts.engines.export.full_model import WholeModel, description
from metaprompts.engines.factory import NEEDS, quantized_networks
from metaprompts.engines.optimized import OptimizedModel
from metaprompts.engines.quantization.build import REPORT, quantize_layers
from metaprompts.engines.quantization.calibration import Calibration, of_scenes
from metaprompts.errors import InputError
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks.base import AnyTask
from metaprompts.utils.files import read_json, scratch_folder, take_place, write_json, write_text
from metaprompts.utils.locks import writing_into
from metaprompts.utils.wording import counted, enumerated

_MULTIPLE = 64
STAGES = 3
"""Number of ``on_stage`` calls of an export."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The files of an export.

    Attributes:
        files: all files, starting with the model's
        parity: the content of parity.json
    """

    files: tuple[Path, ...]
    parity: dict[str, Any]


def export_model(
    model: MetaPromptModel,
    out: Path,
    *,
    kind: str,
    size: tuple[int, int] | None = None,
    steps: int | None = None,
    every_step: bool = False,
    precision: str = "fp32",
    calibration: Calibration | None = None,
    images: Sequence[NDArray[np.uint8]],
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Exported:
    """Write model.* in the given format, model.json, parity.json, predict.py and processing.py; either all or none.

    In w8a8, also write quantization.json, which states how much quantization changes the output.

    Args:
        model: the model, on the CPU, in float32
        out: folder; files of an earlier export in it are removed
        kind: "onnx", "openvino" or "torch"
        size: (height, width) of the network's images; by default the training size
        steps: refinement steps, if fewer than K
        every_step: also output the prediction of each earlier step, "step_1", "step_2", ...
        precision: "fp32", or "w8a8": 8-bit weights and activations ("onnx" and "openvino")
        calibration: images on which the ranges of w8a8's activations are measured; by default generated scenes
        images: (H, W, 3) uint8, images on which the file is compared with the model
        on_stage: called with a description of each of the `STAGES` as it begins

    Returns:
        the files, and their difference from the model

    Raises:
        InputError: a required package is not installed, the format does not support the precision, there is nothing to
            calibrate on, steps are requested that were not trained, the size is not supported, the model reads
            captions, the format cannot compute its second encoder, or the folder cannot be written
    """
    chosen = FORMATS[kind]
    if missing := [name for name in NEEDS.get(kind, ()) if not find_spec(name)]:
        raise InputError(f"format {kind} needs {', '.join(missing)}: pip install 'metaprompts[{kind}]'")
    check_precision(kind, precision)
    if model.config.prompts.kind == "caption":
        raise InputError("this model needs a caption for each image; only models with fixed prompts can be exported")
    if precision == "w8a8" and model.second_encoder is not None:
        raise InputError("models with a second encoder cannot be exported in w8a8: choose precision fp32")
    if kind == "openvino" and model.second_encoder is not None:
        model.second_encoder.check_convertible(chosen.runtime)
    warn_of_untrained_steps(model.config, steps)
    if every_step and not (model.config.supervised_steps and (steps or model.config.refinement.steps) > 1):
        raise InputError("--every-step requires a model with several steps that were all trained (training.step_decay)")
    size = _size(model, size)
    whole = WholeModel(OptimizedModel(model.eval(), steps), every_step=every_step).eval()
    with writing_into(out, "export"), _folder(out) as scratch:
        file = scratch / f"model{chosen.suffix}"
        narrow = precision == "w8a8"
        on_stage(f"{'quantizing and ' * narrow}converting to {kind}, {size[0]}x{size[1]} pixels")
        if narrow:
            _write_quantized(kind, model, whole, size, file, steps, calibration)
        else:
            chosen.write(whole, size, file)
        on_stage(f"comparing {file.name} with the model on {counted(len(images), 'image')}")
        report = _parity(model, chosen, file, size, images)
        on_stage("writing the description and example")
        names = sorted(path.name for path in scratch.iterdir())
        facts = {"format": kind, "precision": precision, "file": file.name, "files": names}
        facts |= {"outputs": whole.output_names, **description(model, size)}
        write_json(scratch / "model.json", facts)
        write_json(scratch / "parity.json", report)
        for name, text in _example(chosen, model.task, every_step=every_step).items():
            write_text(scratch / name, text)
        written = sorted((path.name for path in scratch.iterdir()), key=lambda name: (name not in names, name))
    return Exported(files=tuple(out / name for name in written), parity=report)


def _write_quantized(
    kind: str,
    model: MetaPromptModel,
    whole: WholeModel,
    size: tuple[int, int],
    path: Path,
    steps: int | None,
    calibration: Calibration | None,
) -> None:
    """Write a whole model in w8a8, with quantization.json next to it.

    OpenVINO's file has the networks that the engine executes, from the cache if they are there. ONNX has
    QuantizeLinear and DequantizeLinear nodes before convolutions and products with weights.
    """
    if kind == "openvino":
        folder = quantized_networks(model, steps, calibration)
        write_connected(folder, whole, size, path)
        facts = read_json(folder / REPORT)
    else:
        parts, facts = quantize_layers(whole.prepared, model, calibration or of_scenes())
        FORMATS[kind].write(WholeModel(parts, every_step=whole.every_step).eval(), size, path)
    write_json(path.with_name(REPORT), facts)


def check_precision(kind: str, precision: str) -> None:
    """Check that a format supports a precision.

    Raises:
        InputError: the format does not support the precision
    """
    if precision not in FORMATS[kind].precisions:
        able = [name for name, each in FORMATS.items() if precision in each.precisions]
        raise InputError(
            f"format {kind} supports {enumerated(FORMATS[kind].precisions)}, not {precision}"
            + (f": choose {' or '.join(able)}" if able else "")
        )


def _size(model: MetaPromptModel, asked: tuple[int, int] | None) -> tuple[int, int]:
    crop = model.task.input_size
    if crop is not None:
        if asked is not None and asked != crop:
            raise InputError(
                f"--size is {_shown(asked)}, but the model's crops of people are {_shown(crop)}: omit --size"
            )
        return crop
    size = asked or model.config.working_size
    if size is None:
        raise InputError("the model does not record its training size: pass --size HEIGHT WIDTH")
    if any(side < _MULTIPLE or side % _MULTIPLE for side in size):
        if asked is not None:
            raise InputError(f"--size is {_shown(size)}; expected multiples of {_MULTIPLE}")
        height, width = (max(1, round(side / _MULTIPLE)) * _MULTIPLE for side in size)
        size = (height, width)
    return size


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]} {size[1]}"


def _parity(
    model: MetaPromptModel, chosen: Format, file: Path, size: tuple[int, int], images: Sequence[NDArray[np.uint8]]
) -> dict[str, Any]:
    """The difference between the file's raw output and the model's, image by image and for all images as one batch."""
    resized = [cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in images]
    batch = np.stack([each.astype(np.float32).transpose(2, 0, 1) / 255 for each in resized])
    run = chosen.open(file)
    images_alone = np.split(batch, len(batch))
    with torch.no_grad():
        plain = np.concatenate([model(torch.from_numpy(each)).numpy() for each in images_alone])
    alone, together = np.concatenate([run(each) for each in images_alone]), run(batch)
    spread = float(plain.std())
    return {
        "images": len(images),
        "output_std": spread,
        "output_max": float(abs(plain).max()),
        "max_difference": float(abs(alone - plain).max()),
        "mean_difference": float(abs(alone - plain).mean()),
        "max_difference_of_std": float(abs(alone - plain).max()) / spread,
        "max_difference_in_a_batch": float(abs(together - plain).max()),
    }


def _example(chosen: Format, task: AnyTask, *, every_step: bool = False) -> dict[str, str]:
    """Name -> text of the two example files; one depends on the format, the other on the task."""
    predict = Template((resources.files("metaprompts.engines.export") / "predict.txt").read_text(encoding="utf-8"))
    run = chosen.example["run_steps" if every_step and "run_steps" in chosen.example else "run"]
    text = predict.substitute({**chosen.example, "run": run}, runtime=chosen.runtime)
    return {"predict.py": text, "processing.py": task.example_code()}


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """An empty folder in ``out``, whose files are moved to ``out`` when the block succeeds."""
    with scratch_folder(out / "export", f"cannot write {out}") as scratch:
        yield scratch
        outdated = _model_files(out) - _model_files(scratch)
        for path in scratch.iterdir():
            take_place(path, out / path.name)
        for name in outdated:
            (out / name).unlink(missing_ok=True)


def _model_files(folder: Path) -> set[str]:
    """Names of the files in an export folder that depend on the format and precision; empty for any other folder."""
    try:
        names = read_json(folder / "model.json")["files"]
        ours = {name for name in names if Path(name).name == name and name.startswith("model.")}
        return ours | ({REPORT} & set(names))
    except (InputError, KeyError, TypeError):
        return set()
