"""Settings of the app, and the facts about a model that its page shows."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on requests.

    Attributes:
        upload_bytes: maximum size of an uploaded file
        side_px: maximum height and width of an image
        queue: maximum number of waiting requests; further requests are rejected
        timeout_s: seconds that one request may take, not counting time in the queue
    """

    upload_bytes: int
    side_px: int
    queue: int
    timeout_s: float


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The models to load.

    Attributes:
        sources: folders, hub ids or embedded models; with ``adapters``, only their backbone
        adapters: folders of adapters
        detector: finds people for pose models, see `load_detector`
        engine, precision: see `metaprompts.load`
        calibration: folder of images on which w8a8 is calibrated; by default generated scenes
        calibration_samples: maximum number of these images
        device: compute device; None for the default
    """

    sources: tuple[str, ...]
    adapters: tuple[Path, ...] = ()
    detector: str
    engine: str
    precision: str = "fp32"
    calibration: Path | None = None
    calibration_samples: int | None = None
    device: str | None


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A loaded model.

    Attributes:
        name: source of the model
        task: name of its task
        prompts: number of its meta prompts; 0 if it has no map for each prompt
        steps: number of its refinement steps
        reads_captions: whether it needs a caption of the image
        engine: the engine that runs it
    """

    name: str
    task: str
    prompts: int
    steps: int
    reads_captions: bool
    engine: str
