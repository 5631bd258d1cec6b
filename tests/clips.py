"""Tiny clips, made by PyAV alone, for tests of what reads and writes video."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

TICK = Fraction(1, 1000)


def frame_color(number: int) -> tuple[int, int, int]:
    return 40 + 8 * number, 120, 200 - 8 * number


def plain_frames(count: int, height: int, width: int) -> list[np.ndarray]:
    """Frames of one color each, which tells their number."""
    return [np.full((height, width, 3), frame_color(number), np.uint8) for number in range(count)]


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    times: Sequence[int] | None = None,
    *,
    codec: str = "libx264",
    sound: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames at times in thousandths of a second, by default 25 a second; with a tone if `sound` is a codec."""
    times = times or [40 * number for number in range(len(frames))]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TICK
        audio = None
        if sound is not None:
            audio = container.add_stream(sound, rate=48000)
            audio.layout = "mono"
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            for tone in _tone((times[-1] + 40) / 1000):
                container.mux(audio.encode(tone))
            container.mux(audio.encode(None))
    return path


def _tone(seconds: float) -> Iterator[Any]:
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(48000 * seconds)) / 48000)
    for start in range(0, len(wave), 960):
        frame = av.AudioFrame.from_ndarray(
            wave[None, start : start + 960].astype(np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        yield frame


def read_clip(path: Path) -> tuple[list[float], list[np.ndarray]]:
    """Times in seconds and pixels of all frames, by PyAV alone."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [round(frame.time, 6) for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]
