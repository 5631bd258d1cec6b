"""Write files into a folder, or atomically into one zip archive."""

import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from metaprompts.errors import InputError
from metaprompts.utils.files import write_text, write_whole
from metaprompts.utils.locks import writing_into
from metaprompts.utils.scratch import remove_scratch

Add = Callable[[str, bytes], None]


@contextmanager
def packed(out: Path) -> Iterator[Add]:
    """Yield a function that stores a file by name and content.

    Args:
        out: a name that ends in .zip or .ZIP for an archive, with all files at its top level; else a folder

    Raises:
        InputError: the output cannot be written
    """
    if out.suffix.lower() == ".zip":
        check_not_folder(out)
        remove_scratch(out.parent)
        with write_whole(out) as scratch, zipfile.ZipFile(scratch, "w", zipfile.ZIP_STORED) as archive:
            yield archive.writestr
        return

    def add(name: str, content: bytes) -> None:
        with write_whole(out / name) as scratch:
            scratch.write_bytes(content)

    with writing_into(out, "submit"):
        yield add


def write_alone(out: Path, text: str) -> None:
    """Write one JSON text; if ``out`` ends in .zip, write an archive that contains it under the archive's name.

    Raises:
        InputError: the file cannot be written
    """
    if out.suffix.lower() == ".json":
        remove_scratch(out.parent)
        write_text(out, text)
        return
    with packed(out) as add:
        add(f"{out.stem}.json", text.encode())


def check_suffix(out: Path) -> None:
    """Check that `write_alone` supports this file name.

    Raises:
        InputError: the name ends in neither .json nor .zip, or there is a folder of this name
    """
    if out.suffix.lower() not in (".json", ".zip"):
        raise InputError(f"--out {out} ends in neither .json nor .zip; expected the name of a JSON file or an archive")
    check_not_folder(out)


def check_unique_names(names: Iterable[str]) -> None:
    """Check that names are unique.

    Raises:
        InputError: a name is repeated
    """
    for name, times in Counter(names).items():
        if times > 1:
            raise InputError(f"two images would become {name}: give one test split, where names are unique")


def check_not_folder(out: Path) -> None:
    """Check, before predictions are computed, that the output path is not a folder.

    Raises:
        InputError: there is a folder of this name
    """
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; expected the name of a file")
