"""A file that says in words what is to be seen in pictures."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from metaprompts.errors import InputError
from metaprompts.files import read_json


class CaptionFile:
    """Captions by picture: a JSON object of names and texts.

    A picture is found by its path relative to the root, else by its bare name or its name without ending, as the file
    has it; else by its bare name, where only one of the file's paths ends in it.

    Args:
        path: of the file; the scene writer's captions.json is such a one
        root: what the file's names are relative to

    Raises:
        InputError: it cannot be read, or is no object of texts
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self._root = root
        self._captions = _checked(read_json(path), path)
        by_name: dict[str, list[str]] = defaultdict(list)
        for name in self._captions:
            by_name[Path(name).name].append(name)
        self._by_bare_name = {bare: names[0] for bare, names in by_name.items() if len(names) == 1}

    def of(self, picture: str | Path) -> str:
        """The caption of a picture.

        Raises:
            InputError: the file has none
        """
        for name in self._names(Path(picture)):
            if name in self._captions:
                return self._captions[name]
        raise InputError(
            f"{self.path} has no caption of picture {picture}: add one under its path relative to {self._root}, or its "
            "file name"
        )

    def _names(self, picture: Path) -> list[str]:
        names = [picture.as_posix(), picture.name, picture.stem]
        if picture.is_relative_to(self._root):
            relative = picture.relative_to(self._root)
            names = [relative.as_posix(), relative.with_suffix("").as_posix(), *names]
        return [*names, self._by_bare_name.get(picture.name, "")]


def _checked(content: object, path: Path) -> Mapping[str, str]:
    if not isinstance(content, dict) or not content:
        raise InputError(f'{path} holds no captions: wanted a JSON object such as {{"images/a.png": "a red car"}}')
    for name, caption in content.items():
        if not isinstance(caption, str):
            raise InputError(f"{path}: the caption of {name!r} is {caption!r}; wanted a text")
    return content
