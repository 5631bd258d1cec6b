"""The video options of ``metaprompts predict``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from metaprompts.cli.options import given_options, option
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range

if TYPE_CHECKING:
    from metaprompts.data.io.video.frames import FrameSource, Selection

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
                raise InputError(
                    f"--fps applies only to folders of frames: {inputs[0]} is a file, which has its own frame rate"
                )
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
                f"{next(iter(given))} applies only to videos, but no input is a video: omit it, or pass --fps for a "
                "folder"
            )
        return found

    def _open(self, found: FoundInputs, source: Any, folder: Path) -> None:
        from metaprompts.data.io.video.open import open_video

        fps = self.fps if isinstance(source, list) else None
        try:
            found.videos.append(open_video(source, fps=fps, selection=self.selection))
        except InputError as error:
            found.failures.append(str(error))
