"""Write drives as clips, with exact depth, flow, classes and people for every frame."""

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from metaprompts.data.io.video.writer import VideoWriter
from metaprompts.errors import InputError
from metaprompts.synthetic.drive import FPS, DriveFrame, generate_drive
from metaprompts.synthetic.world import CLASSES
from metaprompts.utils.files import write_array, write_folder_whole, write_image, write_json, write_text, write_whole
from metaprompts.utils.locks import writing_into

SIZE = 128, 192
"""The default height and width."""

_README = """Generated videos: a camera moves through rooms and streets, and people walk. 25 frames per second.

videos/NNN.mp4             clip NNN, H.264
truth/NNN/FFFFFF_depth.npy  frame FFFFFF: meters along the optical axis, float32 (H, W); 0 for the sky
truth/NNN/FFFFFF_flow.npy   x and y to add to a pixel's position to find its point in the previous frame, float32 (H, W,
2) truth/NNN/FFFFFF_seen.png   255 where that point was visible in the previous frame truth/NNN/FFFFFF_labels.png index
into the classes of truth/NNN/frames.json truth/NNN/FFFFFF.png        the frame as rendered, without compression
truth/NNN/frames.json       classes, camera matrix, and the people of every frame: thing, bbox, keypoints (x, y, v)
"""


def write_drives(
    count: int,
    out: Path,
    *,
    frames: int,
    seed: int,
    height: int | None = None,
    width: int | None = None,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] | None = None,
) -> None:
    """Write drives; complete drives are kept, so that repeating an interrupted call resumes it.

    Args:
        count: number of clips
        out: output folder
        frames: number of frames per clip
        seed: seed of the first clip
        height: height of the frames in pixels, even; None for 128
        width: width of the frames in pixels, even; None for 192
        progress: called with an iterable of the clips, and their number

    Raises:
        InputError: a value is out of range, or the folder cannot be written
    """
    size = (height or SIZE[0], width or SIZE[1])
    if count < 1 or frames < 1 or any(side % 2 or side < 16 for side in size):
        raise InputError(
            f"{count} clips of {frames} frames with {size[0]}x{size[1]} pixels; expected at least 1 of each, and even "
            "sides of at least 16"
        )
    with writing_into(out, "scenes"):
        for number in progress(range(count), count) if progress else range(count):
            clip, truth = out / "videos" / f"{number:03d}.mp4", out / "truth" / f"{number:03d}"
            if not (clip.is_file() and truth.is_dir()):
                _write_drive(clip, truth, seed + number, frames, size)
        write_text(out / "README.txt", _README)


def _write_drive(clip: Path, truth: Path, seed: int, frames: int, size: tuple[int, int]) -> None:
    tick = Fraction(1, FPS)
    with (
        write_folder_whole(truth) as folder,
        write_whole(clip) as scratch,
        VideoWriter(scratch, rate=Fraction(FPS), time_base=tick) as writer,
    ):
        entries = []
        for number, frame in enumerate(generate_drive(seed, frames, *size)):
            writer.write(frame.scene.image, number * tick)
            entries.append(_write_truth(folder / f"{number:06d}", frame))
        write_json(folder / "frames.json", {"seed": seed, **_common(frame), "frames": entries})


def _write_truth(stem: Path, frame: DriveFrame) -> dict[str, Any]:
    scene = frame.scene
    write_image(stem.with_name(f"{stem.name}.png"), scene.image)
    write_array(stem.with_name(f"{stem.name}_depth.npy"), scene.depth_m)
    write_array(stem.with_name(f"{stem.name}_flow.npy"), frame.flow)
    write_image(stem.with_name(f"{stem.name}_seen.png"), frame.seen_before.astype(np.uint8) * 255)
    write_image(stem.with_name(f"{stem.name}_labels.png"), scene.labels)
    people = [
        {"thing": each.thing, "bbox": each.box_xywh.tolist(), "keypoints": each.keypoints.tolist()}
        for each in scene.people
    ]
    return {"people": people}


def _common(frame: DriveFrame) -> dict[str, Any]:
    return {"classes": list(CLASSES), "intrinsics": frame.scene.intrinsics.tolist()}
