"""Export formats: how to write each, and how to run its file for comparison."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from metaprompts.engines.export.full_model import WholeModel
from metaprompts.engines.fused_layers import replace_layers
from metaprompts.engines.onnxruntime import RowwiseGroupNorm, write_onnx
from metaprompts.engines.openvino import converted_by_openvino, save_network
from metaprompts.tasks import Task
from metaprompts.utils.files import write_whole
from metaprompts.utils.telemetry import switch_off_telemetry
from metaprompts.utils.torch_modules import sharing_weights

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_BATCH = 2
_ANY_BATCH = ({0: Dim("batch", min=1)},)


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        suffix: suffix of the file
        runtime: packages required to run the file
        precisions: supported precisions
        write: (model, (height, width), path)
        open: path -> a function from images (B, 3, H, W) to the raw output of the last step
        example: lines of the example code that load and run the file; "run_steps" where "run" differs for every step
    """

    suffix: str
    runtime: str
    precisions: tuple[str, ...]
    write: Callable[[WholeModel, tuple[int, int], Path], None]
    open: Callable[[Path], Run]
    example: dict[str, str]


def _images(size: tuple[int, int]) -> Tensor:
    return torch.zeros(_BATCH, 3, *size)


@torch.no_grad()
def _write_torch(model: WholeModel, size: tuple[int, int], path: Path) -> None:
    program = torch.export.export(model, (_images(size),), dynamic_shapes=_ANY_BATCH)
    with write_whole(path) as scratch, scratch.open("wb") as file:
        written = _Patient(file)
        torch.export.save(program, cast(IO[bytes], written))
        written.check()


class _Patient(io.RawIOBase):
    """A file whose write errors are raised later: PyTorch's writer aborts the process if writing raises."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        # At the end, the writer seeks back to the beginning, for readers.
        return offset

    def write(self, content: Any) -> int:
        if self._failure is None:
            try:
                self._file.write(content)
            except OSError as error:
                self._failure = error
        return memoryview(content).nbytes

    def check(self) -> None:
        """Raise the deferred error, if any."""
        if self._failure is not None:
            raise self._failure
        self._file.flush()


def _open_torch(path: Path) -> Run:
    network = torch.export.load(path).module()

    @torch.no_grad()
    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        found = network(torch.from_numpy(images))
        return (found[0] if isinstance(found, tuple) else found).numpy()  # type: ignore[no-any-return]

    return run


def _write_onnx(model: WholeModel, size: tuple[int, int], path: Path) -> None:
    layers = sharing_weights(model)
    replace_layers(layers.prepared.encode, nn.GroupNorm, RowwiseGroupNorm)
    names: dict[str, Any] = {"input_names": ["images"], "output_names": model.output_names}
    write_onnx(path, layers, (_images(size),), _ANY_BATCH, **names)


def _open_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def _write_openvino(model: WholeModel, size: tuple[int, int], path: Path) -> None:
    network = converted_by_openvino(model, _images(size))
    network.reshape([-1, 3, *size])
    _save_openvino(network, model, path)


def write_connected(folder: Path, whole: WholeModel, size: tuple[int, int], path: Path) -> None:
    """Combine the OpenVINO networks of a model's parts into one network, from images (B, 3, H, W) to its outputs.

    The weights of the steps are the same constants, which are stored once.

    Args:
        folder: folder of encode.xml, unet_step.xml and decode.xml
        whole: the model, for its constants, task and outputs
        size: (H, W)
        path: the file to write
    """
    switch_off_telemetry()
    import openvino

    core = openvino.Core()

    def connected(part: str, *inputs: Any) -> list[Any]:
        """The outputs of a part whose parameters are replaced by other values."""
        network = core.read_model(folder / f"{part}.xml")
        for parameter, value in zip(network.inputs, inputs, strict=True):
            parameter.replace(value)
        return _outputs(network)

    def constant(tensor: Tensor) -> Any:
        return openvino.opset13.constant(tensor.detach().numpy()).output(0)

    resizing: Any = converted_by_openvino(_Resize(whole.prepared.task), torch.zeros(2, 3, *size))
    resizing.reshape([-1, 3, *size])
    images = resizing.input(0)
    (latent,) = connected("encode", *_outputs(resizing))
    raws = []
    for step, shifts in enumerate(whole.shifts):
        *pyramid, latent = connected("unet_step", latent, constant(shifts), constant(whole.keys_values[step]))
        if whole.every_step or step == len(whole.shifts) - 1:
            raws += connected("decode", *pyramid, constant(whole.decode_prompts[step]), images)
    _save_openvino(openvino.Model([raws[-1], *raws[:-1]], resizing.get_parameters()), whole, path)


class _Resize(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task

    def forward(self, images: Tensor) -> Tensor:
        return self._task.resize_for_backbone(images)


def _outputs(network: Any) -> list[Any]:
    """The values that are the outputs of an OpenVINO network."""
    return [output.get_node().input_value(0) for output in network.outputs]


def _save_openvino(network: Any, model: WholeModel, path: Path) -> None:
    network.inputs[0].get_tensor().set_names({"images"})
    for output, name in zip(network.outputs, model.output_names, strict=True):
        output.get_tensor().set_names({name})
    save_network(network, path)


def _open_openvino(path: Path) -> Run:
    switch_off_telemetry()
    import openvino

    network: Any = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: network(images)[0]


FORMATS = {
    "torch": Format(
        suffix=".pt2",
        runtime="torch",
        precisions=("fp32",),
        write=_write_torch,
        open=_open_torch,
        example={
            "imports": "import torch",
            "load": "network = torch.export.load(HERE / facts['file']).module()",
            "run": "network(torch.from_numpy(pixels)).detach().numpy()[0]",
            "run_steps": "network(torch.from_numpy(pixels))[0].detach().numpy()[0]",
        },
    ),
    "onnx": Format(
        suffix=".onnx",
        runtime="onnxruntime",
        precisions=("fp32", "w8a8"),
        write=_write_onnx,
        open=_open_onnx,
        example={
            "imports": "import onnxruntime",
            "load": "network = onnxruntime.InferenceSession(HERE / facts['file'])",
            "run": "network.run(None, {'images': pixels})[0][0]",
        },
    ),
    "openvino": Format(
        suffix=".xml",
        runtime="openvino",
        precisions=("fp32", "w8a8"),
        write=_write_openvino,
        open=_open_openvino,
        example={
            "imports": "import openvino",
            "load": "options = {'INFERENCE_PRECISION_HINT': 'f32'}\n"
            "network = openvino.compile_model(HERE / facts['file'], 'CPU', options)",
            "run": "network(pixels)[0][0]",
        },
    ),
}
