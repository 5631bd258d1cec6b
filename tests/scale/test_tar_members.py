"""The files in a tar file are those that tarfile finds."""

import io
import tarfile

import pytest

from metaprompts.scale.tar_members import tar_members

NAMES = ["a.jpg", "sub/b.jpg", "ä.jpg", "long/" * 18 + "c.jpg", "longer/" * 40 + "d.jpg", "e.jpg"]


def tar_of(form, *, mtime=0, others=()):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for number, name in enumerate(NAMES):
            if form == tarfile.USTAR_FORMAT and len(name) > 200:
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 300 * number, mtime
            tar.addfile(info, io.BytesIO(bytes([number]) * info.size))
            for kind in others if number == 2 else ():
                other = tarfile.TarInfo(f"other{kind.decode()}")
                other.type, other.linkname = kind, "a.jpg"
                tar.addfile(other)
    return file


def found_by_tarfile(file):
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        return [(info.name, info.offset_data, info.size) for info in tar if info.isreg()]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mtime", [0, 1.25])
@pytest.mark.parametrize("others", [(), (tarfile.DIRTYPE,), (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)])
def test_the_files_of_every_format(form, mtime, others):
    file = tar_of(form, mtime=mtime, others=others)
    expected = found_by_tarfile(file)
    assert len(expected) >= 5
    assert [tuple(member) for member in tar_members(file)] == expected


def test_tarfile_is_left_out_for_webdataset(monkeypatch):
    """Its extended headers hold times; listing a million images took 63 s."""
    opened = []
    monkeypatch.setattr(
        tarfile, "open", lambda *words, real=tarfile.open, **more: opened.append(1) or real(*words, **more)
    )
    file = tar_of(tarfile.PAX_FORMAT, mtime=1.25)
    opened.clear()
    members = tar_members(file)
    for _ in NAMES:
        next(members)
    assert opened == []


@pytest.mark.parametrize("left", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_an_error(left):
    content = tar_of(tarfile.USTAR_FORMAT).getvalue().rstrip(b"\0")
    with pytest.raises(tarfile.TarError):
        list(tar_members(io.BytesIO(content[: int(len(content) * left)])))


@pytest.mark.parametrize("place", range(0, 512, 7))
def test_damaged_headers_are_read_as_by_tarfile(place):
    content = bytearray(tar_of(tarfile.PAX_FORMAT, mtime=1.25).getvalue())
    content[512 * 3 + place] ^= 0x15

    def outcome(read):
        try:
            return read(io.BytesIO(content))
        except tarfile.TarError as error:
            return type(error)

    assert outcome(lambda file: [tuple(member) for member in tar_members(file)]) == outcome(found_by_tarfile)
