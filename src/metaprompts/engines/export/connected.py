"""Connect the OpenVINO networks of a model's parts to one network."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from metaprompts.engines.export.full_model import WholeModel
from metaprompts.engines.openvino import converted_by_openvino
from metaprompts.tasks import Task
from metaprompts.utils.telemetry import switch_off_telemetry

if TYPE_CHECKING:
    import openvino


def connected_network(folder: Path, whole: WholeModel, size: tuple[int, int]) -> "openvino.Model":
    """One network from images (B, 3, H, W) to the outputs of a whole model.

    The weights of the steps are the same constants, which are stored once.

    Args:
        folder: folder of encode.xml, unet_step.xml and decode.xml
        whole: the model, for its constants, task and outputs
        size: (H, W)
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

    resizing = converted_by_openvino(_Resize(whole.prepared.task), torch.zeros(2, 3, *size))
    resizing.reshape([-1, 3, *size])
    images = resizing.input(0)
    (latent,) = connected("encode", *_outputs(resizing))
    raws = []
    for step, shifts in enumerate(whole.shifts):
        *pyramid, latent = connected("unet_step", latent, _constant(shifts), _constant(whole.keys_values[step]))
        if whole.every_step or step == len(whole.shifts) - 1:
            raws += connected("decode", *pyramid, _constant(whole.decode_prompts[step]), images)
    return openvino.Model([raws[-1], *raws[:-1]], resizing.get_parameters())


class _Resize(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task

    def forward(self, images: Tensor) -> Tensor:
        return self._task.resize_for_backbone(images)


def _outputs(network: "openvino.Model") -> list[Any]:
    """The values that are a network's outputs."""
    return [output.get_node().input_value(0) for output in network.outputs]


def _constant(tensor: Tensor) -> Any:
    import openvino

    return openvino.opset13.constant(tensor.detach().numpy()).output(0)
