"""``metaprompts app``."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from metaprompts.cli.calibration import WithCalibration
from metaprompts.cli.console import say
from metaprompts.cli.options import argument, option
from metaprompts.embedded import embedded_models
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range

_MODEL, _LIMITS, _SPEED = "Models", "Limits", "Speed"


@dataclass(frozen=True, kw_only=True)
class App(WithCalibration):
    """Serve a web page that predicts images, with a tab for each model.

    Depth shows a slider over photo and depth, distances between two clicked points, and a 3-D surface; segmentation
    shows classes with their shares, and pose shows people with their skeletons. All tabs show where meta prompts
    respond, the prediction after each refinement step, and the files that metaprompts predict writes. Without MODEL,
    the three embedded models are served. Needs pip install 'metaprompts[app]'. The page works without a network;
    docs/app.md describes its limits and its API. Ctrl-C stops the app.
    """

    models: tuple[str, ...] = argument("MODEL", (), names=embedded_models)
    """Model folders, hub ids, or embedded models: micro-depth, micro-pose, micro-segmentation; with --adapter, the
    backbone that the adapters were trained on."""
    adapter: tuple[Path, ...] = option((), metavar="DIR", group=_MODEL)
    """A model trained on a frozen MODEL; several adapters share its weights."""
    detector: str = option("micro-segmentation", metavar="DETECTOR", group=_MODEL)
    """Pose: the detector that finds people, see metaprompts predict."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 also serves other machines: anyone who can reach the address can use the app."""
    port: Annotated[int, Range(1, 65535)] | None = None
    """Port to listen on; by default the first free port from 7860."""
    max_upload: str = option("20MB", metavar="SIZE", group=_LIMITS)
    """Maximum size of an uploaded file."""
    max_side: Annotated[int, Range(16, 65535)] = option(4096, metavar="PIXELS", group=_LIMITS)
    """Maximum height and width of an image, in pixels."""
    queue: Annotated[int, Range(1, 10000)] = option(32, metavar="N", group=_LIMITS)
    """Maximum number of waiting requests; the models answer one at a time. Further requests are rejected with a
    message."""
    timeout: Annotated[float, Range(1, 86400)] = option(120.0, metavar="SECONDS", group=_LIMITS)
    """Time limit of one prediction, not counting the wait in the queue."""
    device: str | None = option(None, group=_SPEED)
    """cpu, cuda, cuda:1, mps; by default the GPU if there is one."""
    engine: Literal["auto", "plain", "eager", "compile", "openvino", "onnx"] = option("auto", group=_SPEED)
    """Engine that executes the models, see metaprompts predict."""
    precision: Literal["fp32", "bf16", "fp16", "w8a16", "w8a8"] = option("fp32", group=_SPEED)
    """Precision of the engine, see metaprompts predict; prompt maps are always computed in fp32."""

    def run(self) -> int:
        """Serve until interrupted."""
        from metaprompts.app.server import serving
        from metaprompts.app.settings import Limits, ModelSettings
        from metaprompts.cli.inputs import check_exists
        from metaprompts.utils.byte_size import parse_bytes

        if self.adapter and len(self.models) != 1:
            raise InputError(f"--adapter needs the MODEL it was trained on: expected 1 model, got {len(self.models)}")
        check_exists(*self.adapter)
        settings = ModelSettings(
            sources=self.models or embedded_models(),
            adapters=self.adapter,
            detector=self.detector,
            engine=self.engine,
            precision=self.precision,
            calibration=self.calibration,
            calibration_samples=self.calibration_samples,
            device=self.device,
        )
        limits = Limits(
            upload_bytes=parse_bytes(self.max_upload, "--max-upload"),
            side_px=self.max_side,
            queue=self.queue,
            timeout_s=self.timeout,
        )
        try:
            with serving(settings, limits, host=self.host, port=self.port) as address:
                say(f"metaprompts app: {address} (press Ctrl-C to stop)\n")
                threading.Event().wait()
        except KeyboardInterrupt:
            say("the app has stopped\n")
        return 0
