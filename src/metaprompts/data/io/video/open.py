"""Open a clip, a folder of frames, or a camera."""

from collections.abc import Sequence
from pathlib import Path

from metaprompts.data.io.images import images_in
from metaprompts.data.io.video.camera import Camera
from metaprompts.data.io.video.clip import Clip
from metaprompts.data.io.video.folder import FrameFolder
from metaprompts.data.io.video.frames import EVERY_FRAME, FrameSource, Selection
from metaprompts.errors import InputError


def open_video(
    source: str | Path | int | Sequence[Path], *, fps: float | None = None, selection: Selection = EVERY_FRAME
) -> FrameSource:
    """Open a video.

    Args:
        source: the path of a clip, or of a folder of frames; a list of images; or the number of a camera
        fps: frames per second of a folder or list
        selection: the frames to read

    Raises:
        InputError: the source cannot be read, is a folder given without ``fps``, or is not a folder but given with
        ``fps``
    """
    if isinstance(source, int):
        return Camera(source, selection)
    if not isinstance(source, str | Path):
        return _frames(Path(source[0]).parent if source else Path(), source, fps, selection)
    path = Path(source).expanduser()
    if path.is_dir():
        return _frames(path, images_in(path), fps, selection)
    if fps is not None:
        raise InputError(f"fps is {fps:g}, but {path} is not a folder: a clip has its own frame rate")
    return Clip(path, selection)


def _frames(folder: Path, images: Sequence[Path], fps: float | None, selection: Selection) -> FrameSource:
    if fps is None:
        raise InputError(f"{folder} is a folder: give fps, the frame rate of its images")
    return FrameFolder(folder, images, fps, selection)
