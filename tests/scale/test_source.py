"""Sources become slices, always the same ones."""

import io
import logging
import tarfile

import numpy as np
import pytest
from PIL import Image

from metaprompts.errors import InputError
from metaprompts.scale.images import read_items
from metaprompts.scale.source import Plan, list_source, slices


def listed(source, out="out"):
    return list(list_source(str(source), str(out)))


def tar_of(photos, path, names=("a.png", "d.png", "e.png")):
    with tarfile.open(path, "w") as tar:
        for place, name in enumerate(names):
            tar.add(photos / name, f"{place:03d}.png")
            label = tarfile.TarInfo(f"{place:03d}.label.png")
            label.size = 3
            tar.addfile(label, io.BytesIO(b"abc"))
    return path


def pixels(items):
    return [content.pixels().tobytes() for content in read_items(items)]


def stored(photos, names):
    return [np.array(Image.open(photos / name)).tobytes() for name in names]


def test_a_folder_in_order_and_what_is_skipped_is_counted(photos, caplog):
    with caplog.at_level(logging.WARNING):
        items = listed(photos)
    names = ["a.png", "b/c.png", "d.png", "e.png", "f.png"]
    assert [item.name for item in items] == [str(photos / name) for name in names]
    assert pixels(items) == stored(photos, names)
    assert "skipped 1 file in" in caplog.text


def test_results_inside_the_source_are_not_labeled(photos):
    (photos / "out").mkdir()
    Image.new("RGB", (8, 8)).save(photos / "out/sheet.png")
    assert len(listed(photos, photos / "out")) == 5


def test_a_pattern_a_list_and_the_files_in_it(photos, tmp_path):
    tar_of(photos, tmp_path / "x.tar")
    (tmp_path / "list.txt").write_text("photos/a.png\n\nx.tar\nphotos/gone.png\n")
    assert len(listed(photos / "*.png")) == 4
    items = listed(tmp_path / "list.txt")
    assert [item.file.rsplit("/", 1)[-1] for item in items] == ["a.png", "x.tar", "x.tar", "x.tar", "gone.png"]


def test_a_tar_file_without_the_targets_in_it(photos, tmp_path):
    """000.label.png was taken for an image."""
    items = listed(tar_of(photos, tmp_path / "x.tar"))
    assert [item.name for item in items] == [f"{tmp_path}/x.tar/{place:03d}.png" for place in range(3)]
    assert pixels(items[1:]) == stored(photos, ["d.png", "e.png"])


def test_parquet_with_bytes_and_with_paths(photos, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = ["a.png", "d.png", "e.png"]
    contents = [(photos / name).read_bytes() for name in names]
    parquet.write_table(arrow.table({"bytes": contents}), tmp_path / "bytes.parquet", row_group_size=2)
    hub = [{"bytes": content, "path": None} for content in contents]
    parquet.write_table(arrow.table({"image": hub}), tmp_path / "hub.parquet")
    parquet.write_table(arrow.table({"path": [f"photos/{name}" for name in names]}), tmp_path / "paths.parquet")
    parquet.write_table(arrow.table({"other": [1]}), tmp_path / "other.parquet")
    for source in ("bytes", "hub", "paths"):
        assert pixels(listed(tmp_path / f"{source}.parquet")[1:]) == stored(photos, names[1:])
    assert listed(tmp_path / "bytes.parquet")[2].name == f"{tmp_path}/bytes.parquet#2"
    with pytest.raises(InputError, match=r"has the columns other; expected the images as binary in"):
        listed(tmp_path / "other.parquet")


def test_a_url(photos):
    import fsspec

    files = fsspec.filesystem("memory")
    for name in ("b.png", "sub/a.png", "notes.md"):
        files.pipe_file(f"/pictures/{name}", (photos / "a.png").read_bytes())
    items = listed("memory://pictures")
    assert [item.name for item in items] == ["memory:///pictures/b.png", "memory:///pictures/sub/a.png"]
    assert pixels(items) == stored(photos, ["a.png", "a.png"])
    assert len(listed("memory://pictures/*.png")) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone", "gone does not exist: give a folder"),
        ("gone/*.png", "no images in gone"),
        ("unknown3://bucket", "unknown3://bucket cannot be accessed: Protocol not known: unknown3"),
        ("memory://nothing-here", "memory://nothing-here does not exist"),
    ],
)
def test_a_source_without_images_is_one_line(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        listed(source)


def test_a_broken_tar_file_is_one_line(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(InputError, match=r"x.tar is not a complete, uncompressed tar file"):
        listed(tmp_path / "x.tar")


def test_slices_end_with_their_tar_file(photos, tmp_path):
    tar_of(photos, tmp_path / "x.tar")
    tar_of(photos, tmp_path / "y.tar")
    plan = Plan(slices(listed(tmp_path / "*.tar"), 2))
    assert [(each.number, each.first, len(each.items)) for each in plan] == [
        (0, 0, 2),
        (1, 2, 1),
        (2, 3, 2),
        (3, 5, 1),
    ]
    assert len({each.fingerprint for each in plan}) == 4
    again = Plan(slices(listed(tmp_path / "*.tar"), 2))
    assert [each.fingerprint for each in again] == [each.fingerprint for each in plan]
    assert (len(plan), plan.images) == (4, 6)
