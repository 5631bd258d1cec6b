"""One model of the app, in the process that runs models."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from metaprompts.analysis.prompt_maps import PromptMaps
from metaprompts.analysis.prompts import image_prompt_maps, predictions_by_step
from metaprompts.app.results import STEM, Result, for_page
from metaprompts.app.settings import Limits, ModelFacts, ModelSettings
from metaprompts.app.uploads import read_upload, safe_suffix
from metaprompts.data.io.intrinsics import default_intrinsics, exif_intrinsics
from metaprompts.engines.engine_model import EngineModel
from metaprompts.engines.factory import CONVERTING, weights_type
from metaprompts.engines.loading import PLAIN, with_engine
from metaprompts.engines.memory_budget import Budget, automatic_limit, weight_bytes
from metaprompts.engines.quantization.calibration import CalibrationOptions
from metaprompts.errors import InputError
from metaprompts.inference.detectors.base import PersonDetector, without_duplicates
from metaprompts.inference.predict import predict_many
from metaprompts.models.detectors import load_detector
from metaprompts.models.loading import load, load_adapters
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks.pose import Pose
from metaprompts.tasks.predictions import (
    DepthPrediction,
    PosePrediction,
    Prediction,
    SegmentationPrediction,
    coco_keypoints,
)
from metaprompts.utils.device import pick_device
from metaprompts.utils.files import write_image, write_json
from metaprompts.visualize.depth import color_depth, depth_range
from metaprompts.visualize.heatmaps import overlay_heat
from metaprompts.visualize.pose import DRAWN_SCORE
from metaprompts.visualize.segmentation import class_colors
from metaprompts.visualize.text import ImageArray

_MAPS_KEPT = 4
_HEATMAP_PX = 1024


@dataclass(eq=False)
class AppPredictor:
    """A model, the engine that runs it, and for pose a detector.

    Attributes:
        name: the model's source
        model: the model as loaded
        executed: the model as run by its engine
        detector: finds people; None for other tasks
        budget: keeps predictions within memory
        limits: limits on requests
    """

    name: str
    model: MetaPromptModel
    executed: MetaPromptModel | EngineModel
    detector: PersonDetector | None
    budget: Budget
    limits: Limits

    def __post_init__(self) -> None:
        self._maps = lru_cache(maxsize=_MAPS_KEPT)(self._prompt_maps)

    @property
    def facts(self) -> ModelFacts:
        """The facts about the model that the page shows."""
        config = self.model.config
        reads_captions = config.prompts.kind == "caption"
        has_maps = config.rearrangement.enabled and not reads_captions
        return ModelFacts(
            name=self.name,
            task=self.model.task.name,
            prompts=config.prompts.count if has_maps else 0,
            steps=config.refinement.steps,
            reads_captions=reads_captions,
            engine=str(self.executed) if isinstance(self.executed, EngineModel) else f"engine: {PLAIN}",
        )

    def warm_up(self, *, portrait: bool) -> None:
        """Predict a blank image, so that the first requested prediction is as fast as later ones."""
        height, width = (576, 384) if portrait else (384, 576)
        image = np.zeros((height, width, 3), np.uint8)
        boxes = None
        if self.detector is not None:
            self.detector(image)
            boxes = np.array([[0.0, 0.0, width, height]])
        self._predicted(image, boxes, "a photo" if self.model.config.prompts.kind == "caption" else None)

    def predict(self, upload: Path, folder: Path, caption: str | None) -> None:
        """Predict an uploaded image, and write a `Result`.

        Raises:
            InputError: the upload is not a readable image within the limits, or does not fit in memory
        """
        if self.model.config.prompts.kind == "caption" and not caption:
            raise InputError("this model needs a caption of the image: enter one")
        image = read_upload(upload, self.limits, self.budget.check_image)
        boxes = None if self.detector is None else self.detector(image)
        prediction = self._predicted(image, boxes, caption or None)
        result = Result(folder)
        _save(prediction, result.files, safe_suffix(upload))
        facts = {"caption": caption, "boxes": None if boxes is None else boxes.tolist()}
        facts |= _prediction_facts(prediction, upload)
        depth_m = prediction.depth_m if isinstance(prediction, DepthPrediction) else None
        result.write(image, _drawn(prediction), facts, depth_m)

    def heatmap(self, folder: Path, prompt: int | None) -> int:
        """Draw where a prompt responds, to ``heatmap_N.jpg``.

        Args:
            folder: the folder of a `Result`
            prompt: number of the prompt; None for the prompt that responds most clearly

        Returns:
            the number of the prompt
        """
        result = Result(folder)
        image, maps = result.image(), self._maps(folder)
        if not maps.views:
            raise InputError("no people were found in this image, so there are no prompt responses to show")
        if prompt is None:
            chosen = maps.chosen([], 1)
            prompt = chosen[0] if chosen else 0
        heat = maps.heatmap(prompt)
        drawn = for_page(overlay_heat(image, heat.map, heat.seen))
        drawn.thumbnail((_HEATMAP_PX, _HEATMAP_PX))
        write_image(folder / f"heatmap_{prompt}.jpg", drawn)
        return prompt

    def steps(self, folder: Path) -> int:
        """Draw the predictions after each refinement step, to ``step_K.jpg``; returns the number of steps."""
        result = Result(folder)
        facts = result.facts()
        found = predictions_by_step(self.model, result.image(), facts["boxes"], facts["caption"])
        ranges = None
        if isinstance(last := found[-1], DepthPrediction):
            # The same colors mean the same depth in all steps.
            ranges = depth_range(last.depth_m)
        for number, prediction in enumerate(found, 1):
            if ranges is not None and isinstance(prediction, DepthPrediction):
                image = color_depth(prediction.depth_m, *ranges)
            else:
                image = _drawn(prediction)
            write_image(folder / f"step_{number}.jpg", for_page(image))
        return len(found)

    def _predicted(self, image: Any, boxes: Any, caption: str | None) -> Prediction:
        prediction = next(predict_many(self.executed, [(image, boxes, caption)], 1, self._views_at_once))
        if isinstance(self.model.task, Pose) and isinstance(prediction, PosePrediction):
            return without_duplicates(self.model.task, prediction)
        return prediction

    def _views_at_once(self, size: tuple[int, int]) -> int:
        batch = self.budget.batch(size)
        in_strips = self.model.latent_encoder.rows is not None
        if in_strips and isinstance(self.executed, EngineModel) and not self.executed.strips:
            raise InputError(
                f"{size[0]}x{size[1]} pixels do not fit in memory with engine {self.executed.engine}: start the app "
                "with --engine eager"
            )
        return batch

    def _prompt_maps(self, folder: Path) -> PromptMaps:
        result = Result(folder)
        facts = result.facts()
        return image_prompt_maps(self.model, result.image(), boxes=facts["boxes"], caption=facts["caption"])


def load_predictors(settings: ModelSettings, limits: Limits) -> list[AppPredictor]:
    """Load all models.

    Raises:
        InputError: a model or the detector does not exist or does not load
    """
    device = pick_device("cpu" if settings.engine in CONVERTING else settings.device)
    if settings.adapters:
        models = load_adapters(settings.sources[0], settings.adapters, device)
        names = [str(folder) for folder in settings.adapters]
    else:
        # The model itself computes the maps of the prompts, in fp32.
        kind = weights_type(settings.engine, "fp32", device)
        models, names = [load(source, device, kind) for source in settings.sources], list(settings.sources)
    for model in models:
        if model.config.prompts.kind == "caption":
            model.load_text_encoder()
    options = CalibrationOptions(folder=settings.calibration, samples=settings.calibration_samples)
    calibration = options.calibration(settings.precision)
    together = weight_bytes(*models)
    detector = None
    if any(model.task.reads_boxes for model in models):
        detector = load_detector(settings.detector, device)
    return [
        AppPredictor(
            name=name,
            model=model,
            executed=with_engine(
                model,
                settings.engine,
                settings.precision,
                images=1,
                device=settings.device,
                calibration=calibration,
            ),
            detector=detector if model.task.reads_boxes else None,
            budget=Budget(model, automatic_limit(model), 1, together - weight_bytes(model)),
            limits=limits,
        )
        for name, model in zip(names, models, strict=True)
    ]


def _save(prediction: Prediction, folder: Path, suffix: str) -> None:
    """Write the files that ``metaprompts predict image.png`` writes."""
    if isinstance(prediction, PosePrediction):
        prediction.save(folder, STEM, file_name=STEM + suffix)
        write_json(folder / "poses.json", coco_keypoints([(1, STEM + suffix, prediction)]))
    else:
        prediction.save(folder, STEM)


def _prediction_facts(prediction: Prediction, upload: Path) -> dict[str, Any]:
    """The numbers that describe a prediction, as JSON; the upload's EXIF data may name the focal length."""
    height, width = prediction.image.shape[:2]
    facts: dict[str, Any] = {"height": height, "width": width}
    if isinstance(prediction, DepthPrediction):
        near, far = depth_range(prediction.depth_m, prediction.valid)
        camera = exif_intrinsics(upload, height, width) or default_intrinsics(height, width)
        facts |= {"near_m": near, "far_m": far, "fov_x_deg": camera.fov_x_deg(width), "camera": camera.source}
    elif isinstance(prediction, SegmentationPrediction):
        shares, colors = prediction.shares(), class_colors(prediction.classes)
        present = [
            {"index": index, "name": name, "share": shares[name], "color": f"#{bytes(colors[index]).hex()}"}
            for index, name in enumerate(prediction.classes)
            if name in shares
        ]
        facts["classes"] = sorted(present, key=lambda each: -each["share"])
    elif isinstance(prediction, PosePrediction):
        facts["joints"] = len(prediction.joints)
        facts["people"] = [
            {
                "score": float(person.score),
                "joints_drawn": int((person.scores >= DRAWN_SCORE).sum()),
                "box_xywh": [float(value) for value in person.box_xywh],
            }
            for person in prediction.people
        ]
    return facts


def _drawn(prediction: Prediction) -> ImageArray:
    """The prediction drawn without a legend, at the image's size (H,W,3); the page draws the boxes of people."""
    if isinstance(prediction, PosePrediction):
        return np.asarray(prediction.show(legend=False, boxes=False))
    return np.asarray(prediction.show(legend=False))
