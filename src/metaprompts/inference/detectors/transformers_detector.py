"""Object detectors from transformers: RT-DETR, DETR, YOLOS and others."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from metaprompts.errors import InputError, one_line
from metaprompts.inference.detectors.base import Boxes
from metaprompts.utils.hub import without_progress_bars
from metaprompts.utils.wording import listed
from metaprompts.visualize.text import ImageArray

FILES = ["*.json", "*.safetensors"]
"""The files of a detector on the hub."""

_PERSON = "person"


class TransformersDetector:
    """Person boxes from an object detection model.

    Args:
        folder: model, config and image processor, as `save_pretrained` writes them
        source: name of the model in messages
        device: compute device

    Raises:
        InputError: the folder holds no complete object detection model, or it has no label person
    """

    default_score = 0.5

    def __init__(self, folder: Path, source: str, device: torch.device) -> None:
        config, self._processor, model = _loaded(folder, source)
        labels = {index for index, name in config.id2label.items() if name.strip().casefold() == _PERSON}
        if not labels:
            names = listed([str(name) for name in config.id2label.values()], 5)
            raise InputError(f"detector {source} has no label person, but {names}: choose another detector")
        self._people = torch.tensor(sorted(labels), device=device)
        self._model, self._source = model.eval().to(device), source

    @torch.inference_mode()
    def __call__(self, image: ImageArray) -> Boxes:
        """Boxes of all people.

        Raises:
            InputError: the model does not take this image
        """
        try:
            inputs = self._processor(images=image, return_tensors="pt", input_data_format="channels_last")
            outputs = self._model(**inputs.to(self._model.device))
            (found,) = self._processor.post_process_object_detection(
                outputs, threshold=0.0, target_sizes=[image.shape[:2]]
            )
        except (ValueError, TypeError, RuntimeError, AttributeError) as error:
            size = image.shape[:2]
            raise InputError(f"detector {self._source} fails for {size} pixels: {one_line(error)}") from error
        is_person = torch.isin(found["labels"], self._people)
        corners = found["boxes"][is_person].float().cpu().numpy()
        scores = found["scores"][is_person].float().cpu().numpy()
        return np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2], scores]).astype(np.float32)


def _loaded(folder: Path, source: str) -> tuple[Any, Any, Any]:
    """Config, image processor and model."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection
    from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type not in MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES:
            raise InputError(f"{source} is a {config.model_type} model from transformers; expected an object detector")
        # Other image processors need torchvision.
        read_processor: Any = AutoImageProcessor.from_pretrained
        processor = read_processor(folder, local_files_only=True, backend="pil")
        with without_progress_bars():
            model, report = AutoModelForObjectDetection.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
    except InputError:
        raise
    except Exception as error:  # transformers, safetensors and the image library raise their own error types
        raise InputError(f"detector {source} cannot be loaded: {one_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"detector {source} has no weights for {listed(missing, 3)}: the file is incomplete")
    return config, processor, model
