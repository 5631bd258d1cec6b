"""Write a clip that browsers play."""

from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.io.video.frames import load_av
from metaprompts.errors import InputError

FORMATS = ("mp4", "webm")
"""Containers that browsers play."""

_H264, _VP9 = "libx264", "libvpx-vp9"
_SETTINGS = {
    _H264: {"crf": "18", "preset": "fast"},
    _VP9: {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"},
}
# Color codes of ITU-T H.273: browsers assume these for large clips, and read them from small ones.
_BT709, _LIMITED = 1, 1


class VideoWriter:
    """A clip of frames: H.264 in mp4, or VP9.

    4:2:0 chroma, which every browser plays, needs even sides in H.264: clips with odd sides are VP9, even in mp4.

    Args:
        path: the file, with any suffix
        container: "mp4" or "webm"
        rate: average frames per second; frame times may deviate from it
        time_base: time unit in seconds; all times are multiples of it
        pixel_aspect: width of a pixel divided by its height
        sound: a file whose sound is copied

    Attributes:
        frames: number of frames written
        notes: differences from the request, one line each

    Raises:
        InputError: no encoder is available
    """

    def __init__(
        self,
        path: Path,
        *,
        container: str = "mp4",
        rate: Fraction,
        time_base: Fraction,
        pixel_aspect: Fraction = Fraction(1),
        sound: Path | None = None,
    ) -> None:
        self._av, self._format = load_av(), container
        if container not in FORMATS:
            raise InputError(f"the container is {container!r}; expected {' or '.join(FORMATS)}")
        self._rate, self._time_base, self._aspect, self._sound_path = rate, time_base, pixel_aspect, sound
        self.frames, self.notes = 0, list[str]()
        # The index at the beginning lets browsers play a file before it is loaded.
        options = {"movflags": "+faststart"} if container == "mp4" else {}
        self._container: Any = self._av.open(str(path), "w", format=container, options=options)
        self._stream: Any = None
        self._sound: _Sound | None = None
        self._start_s = self._end_s = Fraction(0)

    def write(self, image: NDArray[np.uint8], time_s: Fraction, sound_start_s: Fraction | None = None) -> None:
        """Write a frame.

        Args:
            image: (H,W,3) uint8 RGB, of the first frame's size
            time_s: the frame's time, later than that of the previous frame
            sound_start_s: the time in the source's sound that becomes 0; only given with the first frame
        """
        if self._stream is None:
            self._begin(image, sound_start_s or Fraction(0))
        frame = self._av.VideoFrame.from_ndarray(image, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = round(time_s / self._time_base), self._time_base
        self._container.mux(self._stream.encode(frame))
        self.frames += 1
        if self._sound is not None:
            self._sound.copy_until(time_s)
        self._end_s = time_s + 1 / self._rate

    def _begin(self, image: NDArray[np.uint8], sound_start_s: Fraction) -> None:
        height, width = image.shape[:2]
        name = self._encoder(odd=bool(height % 2 or width % 2))
        self._stream = stream = self._container.add_stream(name, rate=self._rate, options=_SETTINGS[name])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = self._time_base
        context.sample_aspect_ratio = self._aspect
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        if self._sound_path is not None:
            self._sound = _Sound(self._sound_path, self._container, sound_start_s)
            if self._sound.left_out:
                self.notes.append(f"sound in {', '.join(self._sound.left_out)} cannot be stored in {self._format}")

    def _encoder(self, *, odd: bool) -> str:
        for name in [_VP9] if odd or self._format == "webm" else [_H264, _VP9]:
            if name in self._av.codec.codecs_available:
                return name
        raise InputError("PyAV was built without H.264 and VP9 encoders: pip install --force-reinstall av")

    def close(self) -> None:
        """Finish the file; the sound ends with the last frame."""
        container, self._container = self._container, None
        if container is None:
            return
        with container:
            if self._stream is not None:
                container.mux(self._stream.encode(None))
            if self._sound is not None:
                with closing(self._sound):
                    self._sound.copy_until(self._end_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Sound:
    """The audio tracks of a file, whose packets are copied unchanged; ``start_s`` in the file becomes 0.

    Attributes:
        left_out: names of codecs that the container cannot hold
    """

    def __init__(self, path: Path, container: Any, start_s: Fraction) -> None:
        av = load_av()
        self._target, self.left_out = container, list[str]()
        self._source = av.open(str(path), metadata_errors="replace")
        self._cuts = start_s > 0
        self._start_s = start_s + Fraction(self._source.start_time or 0, 1_000_000)
        self._tracks: dict[int, Any] = {}
        for stream in self._source.streams.audio:
            name = stream.codec_context.name
            if av.codec.Codec(name, "r").canonical_name in container.supported_codecs:
                self._tracks[stream.index] = container.add_stream_from_template(stream)
            else:
                self.left_out.append(name)
        self._packets = self._source.demux(*self._source.streams.audio) if self._tracks else iter(())
        self._next: Any = None

    def copy_until(self, time_s: Fraction) -> None:
        """Copy the sound before this time, in seconds from the start."""
        while (packet := self._peek()) is not None:
            begin_s = packet.pts * packet.time_base - self._start_s
            if begin_s >= time_s:
                return
            self._next = None
            # Packets before time 0 of a file that is copied as a whole prepare the decoder.
            if not self._cuts or begin_s + (packet.duration or 0) * packet.time_base > 0:
                shift = round(self._start_s / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self._tracks[packet.stream.index]
                self._target.mux(packet)

    def _peek(self) -> Any:
        """The next packet of a copied track; None at the end, or where the file is broken."""
        while self._next is None:
            try:
                packet = next(self._packets, None)
            except load_av().FFmpegError:
                return None
            if packet is None:
                return None
            if packet.stream.index in self._tracks and packet.pts is not None and packet.dts is not None:
                self._next = packet
        return self._next

    def close(self) -> None:
        """Close the file."""
        self._source.close()
