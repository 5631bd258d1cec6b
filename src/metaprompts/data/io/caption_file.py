"""A file of image captions."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from itertools import product
from pathlib import Path

from metaprompts.data.io.list_files import same_form
from metaprompts.errors import InputError
from metaprompts.utils.files import read_json


class CaptionFile:
    """Captions by image, from a JSON object that maps names to captions.

    For any spelling of its path, an image is looked up by these keys in order, with or without extension:

    1. the image's folder with links resolved, and its name
    2. the image file with all links resolved
    3. its path, else its bare name, exactly as in the file
    4. its bare name, if only one caption's path ends in that name

    A bare name matches only one image.

    Args:
        path: path of the file, for example the scene writer's captions.json
        root: folder that the file's names are relative to

    Raises:
        InputError: the file cannot be read, or is not an object of strings
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self._root = root
        self._captions = _in_one_form(_checked(read_json(path), path), path)
        # Bare name -> the image for which it was first looked up.
        self._by_bare_use: dict[str, Path] = {}
        # Caption files have few folders, and resolving links is slow.
        resolved = cache(Path.resolve)
        self._by_place = _unambiguous(
            (resolved((root / name).parent) / Path(name).name, caption) for name, caption in self._captions.items()
        )
        self._by_bare_name = _unambiguous((Path(Path(name).name), caption) for name, caption in self._captions.items())

    def of(self, image: str | Path) -> str:
        """The caption of an image.

        Raises:
            InputError: the file has no caption of the image
        """
        for captions, path in self._ways(Path(image)):
            for name in (path, path.with_suffix("")):
                if (caption := captions.get(same_form(name.as_posix()))) is not None:
                    return caption
        raise InputError(
            f"{self.path} has no caption of image {image}: add one under its path relative to {self._root}, or its "
            "file name"
        )

    def _ways(self, image: Path) -> Iterator[tuple[Mapping[str, str], Path]]:
        """Pairs of a caption table and the path to look up in it."""
        yield self._by_place, image.parent.resolve() / image.name
        yield self._by_file, image.resolve()
        yield self._captions, image
        self._check_unique_name(image)
        yield self._captions, Path(image.name)
        yield self._by_bare_name, Path(image.name)

    def _check_unique_name(self, image: Path) -> None:
        """Check that no other image was matched by the same bare name."""
        bare, place = Path(image.name), image.resolve()
        for captions, name in product((self._captions, self._by_bare_name), (bare, bare.with_suffix(""))):
            if name.as_posix() in captions:
                other = self._by_bare_use.setdefault(name.as_posix(), place)
                if other != place:
                    raise InputError(
                        f"{other} and {place} would both have the caption of {name.as_posix()!r} in {self.path}: name "
                        f"images in that file by their paths relative to {self._root}"
                    )
                return

    @cached_property
    def _by_file(self) -> Mapping[str, str]:
        """Captions by resolved path; built only if an image is not found by name, because it resolves every path."""
        return _unambiguous(((self._root / name).resolve(), caption) for name, caption in self._captions.items())


def _in_one_form(captions: Mapping[str, str], path: Path) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, caption in captions.items():
        if found.setdefault(same_form(name), caption) != caption:
            raise InputError(
                f"{path} has two captions for {name!r}, written with different Unicode compositions: keep one"
            )
    return found


def _unambiguous(captions: Iterable[tuple[Path, str]]) -> Mapping[str, str]:
    """The paths that have only one caption; kept as strings, because a file may have very many."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, caption in captions:
        found[same_form(path.as_posix())].add(caption)
    return {name: said.pop() for name, said in found.items() if len(said) == 1}


def _checked(content: object, path: Path) -> Mapping[str, str]:
    if not isinstance(content, dict) or not content:
        raise InputError(f'{path} holds no captions: expected a JSON object such as {{"images/a.png": "a red car"}}')
    for name, caption in content.items():
        if not name.strip("./ ") or "\0" in name:
            raise InputError(f"{path}: {name!r} is not a file name; expected a path such as images/a.png")
        if not isinstance(caption, str):
            raise InputError(f"{path}: the caption of {name!r} is {caption!r}; expected text")
    return content
