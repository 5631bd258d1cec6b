"""``metaprompts predict``."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from metaprompts.cli.calibration import CALIBRATION, WithCalibration, calibration_of
from metaprompts.cli.captions import CaptionOf, CaptionOptions
from metaprompts.cli.depth_options import DepthOptions
from metaprompts.cli.options import argument, given_options, option
from metaprompts.cli.people import PeopleOptions
from metaprompts.cli.videos import FoundInputs, VideoOptions
from metaprompts.embedded import embedded_models
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range

if TYPE_CHECKING:
    from metaprompts.cli.inference_options import InferenceOptions
    from metaprompts.cli.prediction_files import PredictionFiles

_MODEL, _POSE, _LARGE, _SPEED, _LESS = "Adapters", "Pose", "Large images", "Speed", "Faster, but less accurate"


@dataclass(frozen=True, kw_only=True)
class Predict(PeopleOptions, CaptionOptions, DepthOptions, VideoOptions, WithCalibration):
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
    min_score: Annotated[float, Range(0, 1)] | None = option(None, group=_POSE)
    """Pose: draw only joints with at least this score, 0 to 1; by default 0.3. The JSON has all joints."""
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
    """bf16, or fp16 on a GPU: 16-bit matrix products; w8a16: 8-bit weights, 32-bit arithmetic; w8a8: 8-bit weights
    and activations (both openvino)."""
    steps: Annotated[int, Range(1, 64)] | Literal["auto"] | None = option(None, metavar="N|auto", group=_LESS)
    """Use fewer refinement steps than in training; auto: stop when two successive steps agree (models trained with
    training.step_decay and calibrated with metaprompts calibrate --steps)."""
    merge_tokens: float = option(0.0, group=_LESS)
    """Merge this fraction of the finest level's tokens in self-attention, up to 0.75: faster on large images."""
    encoder: Path | None = option(None, metavar="DIR", group=_LESS)
    """A small encoder from metaprompts distill-encoder, which replaces the VAE's encoder."""
    calibration: Path | None = option(None, metavar="DIR", group=CALIBRATION)
    """w8a8: folder of images on which the ranges of activations are measured; by default the images to predict, or
    generated scenes if there are only videos."""

    def run(self) -> int:
        """Predict all readable images."""
        from metaprompts.cli.boxes import check_pose_options
        from metaprompts.utils.locks import writing_into

        given = given_options(self, PeopleOptions)
        check_pose_options(self.model, self.adapter, {**given, "--min-score": self.min_score})
        self.check_people()
        with writing_into(self.out, "predict"):
            return self._predict()

    def _predict(self) -> int:
        from metaprompts.cli.inputs import check_exists, why_unreadable
        from metaprompts.data.io.decoding import check_white_level

        check_white_level(self.white_level)
        self.calibration_options.check(self.precision)
        check_exists(self.boxes, self.captions, self.encoder, self.intrinsics, *self.adapter)
        # Contradictions are reported before anything is read.
        of_depth = self.given_depth_options
        found = self.find_inputs(self.inputs, self.out)
        if found.all_videos and self.boxes is not None:
            raise InputError(
                "--boxes applies only to images, but an input is a video: pass --detector, or predict the video "
                "separately"
            )
        if self.white_level is not None and not found.images:
            raise InputError("--white-level applies only to images, but every input is a video: omit it")
        if found.all_videos and of_depth:
            raise InputError(f"{of_depth[0]} applies only to images, but an input is a video: omit it")
        if not found.videos and (failures := why_unreadable(found.images, white_level=self.white_level)):
            return self._report(found, failures)
        return self._predict_found(found) if found.paths else self._report(found, [])

    def _predict_found(self, found: FoundInputs) -> int:
        from metaprompts.cli.inference_options import InferenceOptions
        from metaprompts.cli.output_names import output_names
        from metaprompts.cli.prediction_files import PredictionFiles
        from metaprompts.engines.engine_model import EngineModel
        from metaprompts.engines.factory import CONVERTING, Approximation, weights_type
        from metaprompts.engines.loading import with_engine
        from metaprompts.models.loading import load, load_adapters
        from metaprompts.utils.device import pick_device
        from metaprompts.utils.progress import report_lines

        inference = InferenceOptions.of(self.window, self.stride, self.max_memory, self.batch_size)
        names = output_names(self.inputs, found.paths)
        less = Approximation(steps=self.steps, merged_tokens=self.merge_tokens, encoder=self.encoder)
        # Networks are converted on the CPU, no matter where they will run.
        device = pick_device("cpu" if self.engine in CONVERTING else self.device)
        people = self.open_people(found.images, device)
        if self.adapter:
            models = load_adapters(self.model, self.adapter, device)
        else:
            models = [load(self.model, device, weights_type(self.engine, self.precision, device, less))]
        inference.check(models)
        windows = self.window is not None or self.stride is not None
        files = PredictionFiles(
            out=self.out,
            names=names,
            people=people,
            depth=self.depth_writer(models, self.model, windows=windows),
            raw=self.raw,
            legend=self.legend,
            min_score=self.min_score,
        )
        if any(model.task.reads_boxes for model in models):
            report_lines(filter(None, [people.note()]))
        captions = self.open_captions(models)
        calibration = self.calibration_options.calibration(
            self.precision,
            partial(calibration_of, found.images, people, captions, self.white_level, self._options_of_inputs()),
        )
        fast = [
            with_engine(
                model,
                self.engine,
                self.precision,
                less,
                images=len(found.images) + sum(video.expected or 1 for video in found.videos),
                bounded=windows or self.max_memory is not None,
                device=self.device,
                calibration=calibration,
            )
            for model in models
        ]
        report_lines(str(each) for each in fast if isinstance(each, EngineModel))
        inference.begin(models, fast)
        return self._predict_with(inference, captions, found, files)

    def _predict_with(
        self,
        inference: "InferenceOptions",
        captions: CaptionOf | None,
        found: FoundInputs,
        files: "PredictionFiles",
    ) -> int:
        from metaprompts.cli.prediction_groups import PredictedGroups, VideoPredictions
        from metaprompts.utils.background import WriteBehind
        from metaprompts.utils.progress import report_lines, tracked

        groups = PredictedGroups(found.images, self.batch_size, inference, files.people, captions, self.white_level)
        with WriteBehind() as writer:
            for pairs in tracked(groups, what="predicting") if found.images else ():
                # Nothing but the writer holds a prediction while the next image is predicted.
                while pairs:
                    overlaps = groups.overlaps(pairs[0][1])
                    writer.run(partial(files.save, *pairs.pop(0)))
                    if not overlaps:
                        writer.wait()
        report_lines([*inference.steps_used(), *filter(None, [groups.rate])])
        files.write_poses()
        videos = VideoPredictions(
            options=self, inference=inference, captions=captions, batch_size=self.batch_size, files=files
        )
        lost, incomplete = videos.predict_all(found.videos)
        counts = [len(prediction.people) for _, prediction in files.poses]
        failures = [*groups.failures, *files.failures]
        return self._report(found, failures, files.people.summary(counts), lost, incomplete)

    def _report(
        self,
        found: FoundInputs,
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

    def _options_of_inputs(self) -> list[object]:
        """The options and files, other than the images, that affect the model inputs."""
        from metaprompts.utils.fingerprint import file_fingerprint

        people = [getattr(self, each.name) for each in fields(PeopleOptions)]
        files = [file_fingerprint(path) for path in (self.boxes, self.captions) if path is not None]
        return [self.detector, *people, self.caption, self.captioner, self.white_level, *files]
