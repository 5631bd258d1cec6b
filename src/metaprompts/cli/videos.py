"""The video options of ``metaprompts predict``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from metaprompts.cli.options import given_options, option
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range

if TYPE_CHECKING:
    from metaprompts.cli.captions import CaptionOf
    from metaprompts.cli.inference_options import InferenceOptions
    from metaprompts.cli.prediction_files import PredictionFiles
    from metaprompts.data.io.video.frames import FrameSource, Selection
    from metaprompts.inference.video.outputs import VideoOutput
    from metaprompts.inference.video.run import VideoJob
    from metaprompts.models.model import MetaPromptModel

_VIDEO = "Video"


@dataclass(frozen=True, kw_only=True)
class FoundInputs:
    """The inputs given on a command line.

    Attributes:
        images: image files
        videos: opened videos
        failures: one line for each video that cannot be opened
    """

    images: list[Path] = field(default_factory=list)
    videos: "list[FrameSource]" = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """The images, then the videos."""
        return [*self.images, *(video.path for video in self.videos)]

    @property
    def all_videos(self) -> int:
        """Number of videos, including those that cannot be opened."""
        return len(self.videos) + len(self.failures)


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Options of a command that predicts videos."""

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

    @property
    def selection(self) -> "Selection":
        """The frames to read."""
        from metaprompts.data.io.video.frames import Selection

        return Selection(every=self.every or 1, start_s=self.start or 0.0, end_s=self.end)

    def find_inputs(self, inputs: Sequence[str], out: Path) -> FoundInputs:
        """Find the images and open the videos.

        Args:
            inputs: files, folders and patterns as given by the user
            out: output folder

        Raises:
            InputError: there is no input, or there are video options but no video
        """
        from metaprompts.data.io.images import IMAGE_SUFFIXES, list_images, searched_folder
        from metaprompts.data.io.video.frames import VIDEO_SUFFIXES

        if not inputs and self.camera is None:
            raise InputError("nothing to predict: give images, folders, videos, or --camera 0")
        found, rest = FoundInputs(), list(inputs)
        if self.fps is not None:
            folders = [text for text in inputs if searched_folder(text) != Path(text).parent or Path(text).is_dir()]
            if not folders:
                raise InputError(f"--fps is for folders of frames: {inputs[0]} is a file, which has its own frame rate")
            rest = [text for text in inputs if text not in folders]
            for text in folders:
                self._open(found, list_images([text], out=out), searched_folder(text))
        for path in list_images(rest, out=out, suffixes=IMAGE_SUFFIXES | VIDEO_SUFFIXES):
            if path.suffix.lower() in VIDEO_SUFFIXES:
                self._open(found, path, path)
            else:
                found.images.append(path)
        if self.camera is not None:
            self._open(found, self.camera, Path())
        given = given_options(self, VideoOptions)
        if given and not found.all_videos:
            raise InputError(
                f"{next(iter(given))} is for videos, but no input is a video: leave it out, or pass --fps for a folder"
            )
        return found

    def _open(self, found: FoundInputs, source: Any, folder: Path) -> None:
        from metaprompts.data.io.video.open import open_video

        fps = self.fps if isinstance(source, list) else None
        try:
            found.videos.append(open_video(source, fps=fps, selection=self.selection))
        except InputError as error:
            found.failures.append(str(error))


@dataclass(frozen=True, kw_only=True)
class VideoPredictions:
    """Predicts videos with the models of a command.

    Attributes:
        options: the video options
        inference: the models
        captions: captions, if the models read them
        batch_size: maximum number of frames per pass
        files: the settings of the predictions' files
    """

    options: VideoOptions
    inference: "InferenceOptions"
    captions: "CaptionOf | None"
    batch_size: int
    files: "PredictionFiles"

    def predict_all(self, videos: "Sequence[FrameSource]") -> tuple[list[str], list[str]]:
        """Predict videos; one that fails does not stop the others.

        Args:
            videos: the videos to predict

        Returns:
            a line for each video that failed, and for each problem in the others
        """
        failures, problems = list[str](), list[str]()
        for video in videos:
            try:
                problems += self.predict(video, self.files.names[video.path])
            except InputError as error:
                text = str(error)
                failures.append(text if text.startswith(video.name) else f"{video.name}: {text}")
        return failures, problems

    def predict(self, video: "FrameSource", name: Path) -> list[str]:
        """Predict a video with all models.

        Args:
            video: the video to predict
            name: path of its results below the output folder, without endings

        Returns:
            parts of the video that could not be read, one line each

        Raises:
            InputError: nothing could be predicted
            KeyboardInterrupt: after an interrupt; the predictions made so far are written
        """
        from metaprompts.inference.video.run import predict_source
        from metaprompts.utils.progress import ProgressBar

        height, width = video.size
        self.inference.check_size(width, height)
        jobs = [self._job(model, video, name) for model in self.inference.models]
        with ProgressBar(f"predicting {video.name}", video.expected) as bar:
            is_whole = predict_source(video, jobs, batch_size=self.batch_size, advance=bar.advance)
        self._report(video, [job.output for job in jobs], is_whole=is_whole)
        if not is_whole:
            raise KeyboardInterrupt
        return [f"{video.name}: {problem}" for problem in video.problems]

    def _report(self, video: "FrameSource", outputs: "list[VideoOutput]", *, is_whole: bool) -> None:
        from metaprompts.utils.progress import report_lines
        from metaprompts.utils.wording import counted

        for output in outputs:
            done = f"{counted(output.frames, 'frame')} in {output.path}"
            report_lines([f"{video.name}: {'' if is_whole else 'stopped, '}{done}"])
            report_lines(f"{video.name}: {note}" for note in output.notes)

    def _job(self, model: "MetaPromptModel", video: "FrameSource", name: Path) -> "VideoJob":
        from metaprompts.inference.video.drawing import drawing_for, samples_for
        from metaprompts.inference.video.outputs import VideoOutput
        from metaprompts.inference.video.run import VideoJob
        from metaprompts.inference.video.temporal import VideoPredictor
        from metaprompts.utils.progress import report_lines

        def predict(inputs: Any, raw_filter: Any) -> Iterator[Any]:
            predictions = self.inference.predictions(model, inputs, raw_filter)
            return (self.files.people.distinct(model, each) for each in predictions)

        images = samples_for(model.task.name, video)
        caption_of = self.captions if model.config.prompts.kind == "caption" else None
        predictor = VideoPredictor(
            predict,
            model.task.name,
            steady=self.options.temporal != "off",
            boxes_of=self.files.people.detector if model.task.reads_boxes else None,
            caption=None if caption_of is None else caption_of(video.path, images[0]),
        )
        drawing = drawing_for(list(predictor.sample(images)), legend=self.files.legend, min_score=self.files.min_score)
        report_lines([f"{video.name}: {drawing.note}"] if drawing.note else [])
        container, folder = self.options.video_format or "mp4", (self.files.out / name).parent
        output = VideoOutput(
            folder / f"{name.name}_{drawing.ending}.{container}",
            stem=name.name,
            container=container,
            source=video,
            drawing=drawing,
            from_start=not self.options.start,
            raw=folder / f"{name.name}_frames" if self.files.raw else None,
        )
        return VideoJob(predictor=predictor, output=output)
