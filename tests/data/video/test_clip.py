from fractions import Fraction

import av
import numpy as np
import pytest

from clips import TICK, frame_color, plain_frames, read_clip, sound_packets, write_clip
from metaprompts.data.io.video.clip import Clip
from metaprompts.data.io.video.frames import Selection
from metaprompts.data.io.video.writer import VideoWriter
from metaprompts.errors import InputError

TIMES = [0, 40, 120, 130, 300, 700]


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", plain_frames(6, 48, 64), TIMES)


def seconds(frames):
    return [float(frame.time_s) for frame in frames]


def test_frames_have_their_own_times_and_pixels(clip):
    frames = list(Clip(clip))
    assert seconds(frames) == [time / 1000 for time in TIMES]
    for number, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3)
        np.testing.assert_allclose(frame.image[20, 20], frame_color(number), atol=6)


@pytest.mark.parametrize(
    ("selection", "kept"),
    [
        (Selection(every=2), [0, 120, 300]),
        (Selection(start_s=0.04), [40, 120, 130, 300, 700]),
        (Selection(start_s=0.041, end_s=0.3), [120, 130]),
        (Selection(every=3, start_s=0.1), [120, 700]),
        (Selection(start_s=0.2, end_s=0.25), []),
    ],
)
def test_selected_frames(clip, selection, kept):
    assert seconds(Clip(clip, selection)) == [time / 1000 for time in kept]


@pytest.mark.parametrize("wrong", [{"every": 0}, {"start_s": -1.0}, {"start_s": 2.0, "end_s": 2.0}])
def test_impossible_selections(wrong):
    with pytest.raises(InputError, match="expected"):
        Selection(**wrong)


def test_expected_frames_of_a_steady_clip(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", plain_frames(20, 32, 32))
    assert Clip(path).expected == 20
    assert Clip(path, Selection(every=3, start_s=0.2)).expected == 5


def test_a_sideways_video_is_turned(tmp_path):
    """Phones store videos sideways with a rotation in the metadata: they came out lying on their side."""
    upright = np.zeros((64, 48, 3), np.uint8)
    upright[:20] = 220
    plain = write_clip(tmp_path / "plain.mp4", [np.rot90(upright)] * 2)
    content = bytearray(plain.read_bytes())
    # The matrix of the track header, 16.16 fixed point: a quarter turn clockwise.
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = b"".join(
        value.to_bytes(4, "big", signed=True) for value in (0, 65536, 0, -65536, 0, 0, 48 * 65536, 0, 1 << 30)
    )
    (tmp_path / "turned.mp4").write_bytes(content)
    turned = Clip(tmp_path / "turned.mp4")
    assert turned.size == (64, 48)
    image = next(iter(turned)).image
    assert image[5].mean() > 180
    assert image[40].mean() < 40


def test_samples_are_spread(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", plain_frames(20, 32, 32))
    reds = [int(image[5, 5, 0]) for image in Clip(path).sample(4)]
    np.testing.assert_allclose(reds, [frame_color(number)[0] for number in (0, 5, 10, 15)], atol=6)


@pytest.mark.parametrize("content", [b"", b"no video at all" * 50])
def test_a_file_that_is_no_video_is_one_line(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*clip.mp4 as video: "):
        Clip(path)


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="holds no video"):
        Clip(tmp_path / "song.mp4")


def test_a_truncated_file_gives_the_frames_it_has(tmp_path):
    """The index is at the beginning, so such a file opens, and simply has fewer frames."""
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), np.uint8)
    whole = write_clip(tmp_path / "whole.mp4", list(noise), options={"movflags": "+faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    clip = Clip(cut)
    assert 1 <= len(list(clip)) < 20
    assert any("0.80 seconds" in problem or "could not" in problem for problem in clip.problems), clip.problems


def test_broken_packets_are_skipped_and_counted(tmp_path):
    whole = write_clip(tmp_path / "whole.mp4", plain_frames(20, 64, 64), codec="mpeg4")
    with av.open(str(whole)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(whole.read_bytes())
    place, size = places[10]
    content[place : place + size] = bytes(size)
    (tmp_path / "broken.mp4").write_bytes(content)
    clip = Clip(tmp_path / "broken.mp4")
    assert len(list(clip)) >= 18
    assert not Clip(whole).problems


def write(path, frames, times, **settings):
    source = Clip(settings.pop("source")) if "source" in settings else None
    with VideoWriter(path, rate=Fraction(25), time_base=TICK, sound=source and source.path, **settings) as writer:
        for image, time in zip(frames, times, strict=True):
            writer.write(image, time * TICK)
    return writer


@pytest.mark.parametrize(
    ("size", "container", "codec"),
    [((48, 64), "mp4", "h264"), ((47, 65), "mp4", "vp9"), ((48, 64), "webm", "vp9"), ((47, 65), "webm", "vp9")],
)
def test_written_clips_keep_size_times_and_colors(tmp_path, size, container, codec):
    path = tmp_path / "out"
    write(path, plain_frames(6, *size), TIMES, container=container)
    times, frames = read_clip(path)
    assert times == [time / 1000 for time in TIMES]
    for number, frame in enumerate(frames):
        assert frame.shape == (*size, 3)
        np.testing.assert_allclose(frame[20, 20], frame_color(number), atol=6)
    with av.open(str(path)) as read:
        context = read.streams.video[0].codec_context
        assert (context.name.removeprefix("lib"), context.pix_fmt) == (codec, "yuv420p") or codec in context.name
        # Limited range, BT.709: how browsers show it.
        assert (context.color_range, context.colorspace) == (1, 1)


def test_mp4_begins_with_its_index(tmp_path):
    """Browsers load a clip whose index is at the end before they show anything."""
    write(tmp_path / "out", plain_frames(6, 48, 64), TIMES)
    content = (tmp_path / "out").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_sound_is_copied_packet_by_packet(tmp_path):
    frames = plain_frames(6, 48, 64)
    source = write_clip(tmp_path / "clip.mp4", frames, TIMES, sound="aac")
    write(tmp_path / "out", frames, TIMES, source=source)
    assert len(sound_packets(source)) > 30
    assert sound_packets(tmp_path / "out") == sound_packets(source)


def test_sound_that_does_not_fit_is_left_out_and_said(tmp_path):
    frames = plain_frames(6, 48, 64)
    source = write_clip(tmp_path / "clip.mp4", frames, TIMES, sound="aac")
    writer = write(tmp_path / "out", frames, TIMES, source=source, container="webm")
    assert writer.notes == ["sound in aac cannot be stored in webm"]
    with av.open(str(tmp_path / "out")) as container:
        assert not container.streams.audio


def test_unknown_containers(tmp_path):
    with pytest.raises(InputError, match="'avi'; expected mp4 or webm"):
        VideoWriter(tmp_path / "out", container="avi", rate=Fraction(25), time_base=TICK)
