import unicodedata

import pytest

from metaprompts.data.io.list_files import find_pairs, match_folders, read_pairs
from metaprompts.errors import InputError


@pytest.fixture
def root(tmp_path):
    for name in ("images/a.jpg", "images/deep/b.jpg", "labels/a.png", "labels/deep/b.png", "my image.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def write_list(root, text):
    (root / "list.txt").write_text(text, encoding="utf-8")
    return root / "list.txt"


class TestListFile:
    def test_pairs_in_order(self, root):
        """Comments, blank lines, Windows line ends, a byte order mark and the leading / of the NYU lists."""
        text = "\ufeff# a list\n\nimages/deep/b.jpg   labels/deep/b.png\r\n/images/a.jpg /labels/a.png\n"
        assert read_pairs(write_list(root, text), root) == [
            (root / "images/deep/b.jpg", root / "labels/deep/b.png"),
            (root / "images/a.jpg", root / "labels/a.png"),
        ]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("list.txt", "{root}/my image.jpg\t{root}/labels/a.png\n"),
            ("list.txt", '"my image.jpg" "labels/a.png"\n'),
            ("list.txt", "my image.jpg\t\tlabels\\a.png\n"),
            ("list.csv", 'image,mask\n"my image.jpg",labels/a.png\n'),
            ("list.csv", "my image.jpg, labels/a.png\n"),
        ],
    )
    def test_as_people_write_them(self, root, name, text):
        """Absolute paths were searched below the root; commas, quotes and backslashes gave "1 paths" or "5 paths"."""
        (root / name).write_text(text.format(root=root))
        assert read_pairs(root / name, root) == [(root / "my image.jpg", root / "labels/a.png")]

    @pytest.mark.parametrize("text", ["my image.jpg labels/a.png", "my image.jpg"])
    def test_names_with_spaces_want_tabs(self, root, text):
        with pytest.raises(InputError, match="tabs between the columns"):
            read_pairs(write_list(root, text), root)

    @pytest.mark.parametrize("stored", ["NFC", "NFD"])
    def test_accents_in_another_form(self, root, stored):
        """Images from a Mac, whose names have letters and accents apart, were not found."""
        for name in ("Grüße/é.jpg", "Grüße/é.png"):
            path = root / unicodedata.normalize(stored, name)
            path.parent.mkdir(exist_ok=True)
            path.touch()
        other = "NFD" if stored == "NFC" else "NFC"
        text = unicodedata.normalize(other, "Grüße/é.jpg\tGrüße/é.png")
        ((image, label),) = read_pairs(write_list(root, text), root)
        assert image.is_file()
        assert label.is_file()

    def test_tab_allows_spaces(self, root):
        assert read_pairs(write_list(root, "my image.jpg\tlabels/a.png\n"), root)[0][0] == root / "my image.jpg"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("images/a.jpg labels/a.png\n\nimages/a.jpg\n", "list.txt, line 3: 1 paths"),
            ("images/a.jpg labels/a.png 721.5\n", "list.txt, line 1: 3 paths"),
            ("images/a.jpg labels/gone.png\n", "list.txt, line 1: .*labels/gone.png does not exist"),
            ("# nothing\n", "names no images"),
            (f"images/a.jpg {'a' * 9999}\n", "list.txt, line 1: .*aaa does not exist"),
        ],
    )
    def test_bad_lines(self, root, text, words):
        with pytest.raises(InputError, match=words):
            read_pairs(write_list(root, text), root)

    def test_bad_lists(self, root):
        with pytest.raises(InputError, match=r"cannot read .*gone\.txt"):
            read_pairs(root / "gone.txt", root)
        (root / "list.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InputError, match="not UTF-8"):
            read_pairs(root / "list.txt", root)

    def test_an_image_twice(self, root, caplog):
        """It counted twice in the score, without a word."""
        image, label = "images/a.jpg", "labels/a.png"
        lines = (f"{image} {label}", f"{image} {label}", f"{image} labels/deep/b.png", f"images/deep/b.jpg {label}")
        assert len(read_pairs(write_list(root, "\n".join(lines)), root)) == 4
        assert "list.txt: 2 lines repeat the image of another line, 1 of them with a different label" in caplog.text

    def test_real_lists(self, shared_data):
        assert len(read_pairs(shared_data / "camvid/train.txt", shared_data / "camvid")) == 367
        nyu = shared_data / "formats/nyu_depth_v2"
        assert len(read_pairs(nyu / "train_list.txt", nyu / "sync")) == 3


class TestFolders:
    def test_same_names(self, root):
        assert match_folders(root / "images", root / "labels") == [
            (root / "images/a.jpg", root / "labels/a.png"),
            (root / "images/deep/b.jpg", root / "labels/deep/b.png"),
        ]

    def test_partners_in_another_unicode_form(self, tmp_path):
        """An image from a Mac and its mask from Linux were "2 files without counterpart"."""
        for folder, form, ending in (("images", "NFD", "jpg"), ("labels", "NFC", "png")):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / f"{unicodedata.normalize(form, 'Zürich')}.{ending}").touch()
        ((image, label),) = match_folders(tmp_path / "images", tmp_path / "labels")
        assert (image.suffix, label.suffix) == (".jpg", ".png")

    def test_linked_folders_are_searched_and_circles_are_not_followed(self, root):
        """Of 6 images 3 were trained on, as folders that are links were left out."""
        for kind in ("images", "labels"):
            (root / kind / "link").symlink_to(root / kind / "deep")
            (root / kind / "circle").symlink_to(root / kind)
        assert [image.relative_to(root).as_posix() for image, _ in match_folders(root / "images", root / "labels")] == [
            "images/a.jpg",
            "images/deep/b.jpg",
            "images/link/b.jpg",
        ]

    def test_a_link_that_leads_nowhere_is_reported_before_training(self, root):
        (root / "images/c.jpg").symlink_to(root / "gone.jpg")
        with pytest.raises(InputError, match=r"link .*c\.jpg points to nothing"):
            match_folders(root / "images", root / "labels")

    def test_what_is_passed_over_is_said(self, root, caplog):
        (root / "images/clip.mp4").touch()
        match_folders(root / "images", root / "labels")
        assert "1 file in" in caplog.text
        assert ".mp4 (1)" in caplog.text

    def test_one_without_partner(self, root):
        (root / "labels/c.png").touch()
        with pytest.raises(InputError, match=r"^1 file of .* without a counterpart of the same name: \S*labels/c.png;"):
            match_folders(root / "images", root / "labels")

    def test_many_without_partner(self, root):
        for number in range(7):
            (root / f"images/x{number}.jpg").touch()
        with pytest.raises(InputError, match=r"^7 files.*x0.*x1.*x2.*x3.*x4\.jpg and 2 more;") as caught:
            match_folders(root / "images", root / "labels")
        assert "x5" not in str(caught.value)

    def test_two_of_one_name(self, root):
        (root / "images/a.png").touch()
        with pytest.raises(InputError, match=r"a.jpg and .*a.png have the same name"):
            match_folders(root / "images", root / "labels")

    def test_nothing_there(self, root):
        with pytest.raises(InputError, match="gone does not exist"):
            match_folders(root / "gone", root / "labels")
        (root / "none").mkdir()
        with pytest.raises(InputError, match="none holds no files"):
            match_folders(root / "images", root / "none")


def test_find_pairs_takes_either(root):
    write_list(root, "images/a.jpg labels/a.png")
    assert find_pairs(root, "list.txt", None) == find_pairs(root, "images", "labels")[:1]
    with pytest.raises(InputError, match="but no folder of labels is given"):
        find_pairs(root, "images", None)
