"""Copy the sound of a file into another without decoding it."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from metaprompts.data.io.video.library import load_av


class Sound:
    """The audio tracks of a file, whose packets are copied unchanged.

    Args:
        path: path of the file
        container: the container that is written, before its first packet
        start_s: the time in the file that becomes 0, in seconds; earlier sound is dropped

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()
