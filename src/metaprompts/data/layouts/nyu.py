"""NYU Depth v2, in the layout of depth estimation code (sync, official_splits) or directly from its MATLAB files."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.datasets.pairs import DepthPairs
from metaprompts.data.io.depth_files import DepthEncoding
from metaprompts.data.io.open_image import load_library, naming_failure
from metaprompts.data.layouts.folders import find_file, find_folder, read_depth_list
from metaprompts.data.sample import Sample
from metaprompts.errors import InputError

DEPTH_SCALE = 1000.0
"""Depth files store millimeters."""

_FOLDERS = {"train": "sync", "val": "official_splits/test"}
_LISTS = {
    "train": ("train_list.txt", "nyudepthv2_train_files_with_gt.txt"),
    "val": ("test_list.txt", "nyudepthv2_test_files_with_gt.txt"),
}
_LABELED, _SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"
_INDICES = {"train": "trainNdxs", "val": "testNdxs"}
# Outside this region, images have a white frame, which the standard conversion to JPEG, used for published results,
# blackens.
_INSIDE = np.s_[7:474, 7:632]


class NyuDepth(DepthPairs):
    """Images and depth of ``sync/`` or ``official_splits/test/``, from a list file.

    Args:
        root: the folder that contains sync, official_splits and the lists
        split: "train" (24231 pairs in the common list) or "val" (654)
        list_file: list with two or three columns; None for the first existing file with a common name

    Raises:
        InputError: a folder, a list, or a file listed in it, is missing, or a line is malformed
    """

    def __init__(self, root: Path, split: Literal["train", "val"], *, list_file: str | None = None) -> None:
        folder = find_folder([root / _FOLDERS[split]], what=f"images and depth of NYU v2's split {split}")
        names = _LISTS[split] if list_file is None else (list_file,)
        path = find_file([root / name for name in names], what=f"the list of NYU v2's split {split}")
        pairs, self.unmeasured = read_depth_list(path, (folder, root), (folder, root))
        super().__init__(pairs, DepthEncoding(depth_scale=DEPTH_SCALE))


class NyuMat:
    """The 1449 labeled images of ``nyu_depth_v2_labeled.mat``, split according to ``splits.mat``.

    Images get a black frame, and depth has unfilled holes (``rawDepths``), as in the standard official_splits folder.

    Args:
        root: the folder that contains both files
        split: "train" (795 images) or "val" (654)

    Raises:
        InputError: h5py or SciPy is not installed, or a file is missing or invalid
    """

    def __init__(self, root: Path, split: Literal["train", "val"]) -> None:
        self._labeled = find_file([root / _LABELED], what="NYU v2's labeled images")
        splits = self._splits = find_file([root / _SPLITS], what="NYU v2's official split")
        numbers = _read_split(splits, _INDICES[split])
        with _opened(self._labeled) as file:
            count = len(_array(file, "images", self._labeled, (3, 640, 480)))
            depths = len(_array(file, "rawDepths", self._labeled, (640, 480)))
        if depths != count or not (numbers.size and numbers.min() >= 1 and numbers.max() <= count):
            raise InputError(
                f"{self._labeled} holds {count} images and {depths} depth maps, but {splits} lists {numbers.size} of "
                f"them, up to {numbers.max(initial=0)}: download both files again"
            )
        self._places = (numbers - 1).tolist()

    def __len__(self) -> int:
        return len(self._places)

    def path(self, index: int) -> str:
        """The path of a sample's image."""
        return str(self._labeled / f"{self._places[index]:05d}")

    def files(self, index: int) -> tuple[Path, ...]:
        """The two files of all samples."""
        del index
        return self._labeled, self._splits

    def __getitem__(self, index: int) -> Sample:
        """Read one image and its depth.

        Returns:
            a sample of 480 x 640 with ``depth_m`` in meters, 0 = no measurement

        Raises:
            InputError: the file is broken
        """
        place = self._places[index]
        # Opened for each sample: an open HDF5 file survives neither pickling nor forking.
        with _opened(self._labeled) as file, naming_failure(f"{self._labeled} is broken", "download it again"):
            stored, depth = file["images"][place], file["rawDepths"][place]
        image = np.zeros((480, 640, 3), dtype=np.uint8)
        image[_INSIDE] = stored.transpose(2, 1, 0)[_INSIDE]
        depth_m = np.nan_to_num(depth.T.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        return Sample(image=image, path=self.path(index), depth_m=np.ascontiguousarray(depth_m))


def _read_split(path: Path, name: str) -> NDArray[np.int64]:
    """(P,) image numbers, from 1."""
    loadmat = load_library("scipy.io", str(path), "mat").loadmat
    with naming_failure(f"{path} is not a MATLAB 5 file", "download it again"):
        content = loadmat(str(path))
    if name not in content:
        raise InputError(f"{path} has no {name}; expected trainNdxs and testNdxs: download it again")
    return np.asarray(content[name]).ravel().astype(np.int64)


def _opened(path: Path) -> Any:
    with naming_failure(f"{path} is not a MATLAB 7.3 (HDF5) file", "download it again"):
        return load_library("h5py", str(path), "mat").File(path, "r")


def _array(file: Any, name: str, path: Path, shape: tuple[int, ...]) -> Any:
    if name not in file or file[name].shape[1:] != shape:
        came = f"{name} of {file[name].shape}" if name in file else f"no {name}"
        raise InputError(f"{path} has {came}; expected (1449, {', '.join(map(str, shape))}): download it again")
    return file[name]
