"""Check the distributions that ``python -m build`` has written.

The wheel, which was built from the source distribution, must equal one built from the checkout, and be small enough.

python scripts/check_dist.py [--no-isolation] DIST
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LARGEST_WHEEL = 45_000_000


def main(words: list[str] | None = None) -> int:
    """Print what is wrong, or the sizes; the exit code is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIST")
    parser.add_argument("--no-isolation", action="store_true", help="build with the installed hatchling")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--no-isolation"] if given.no_isolation else []
        subprocess.run([sys.executable, "-m", "build", "--wheel", *options, "--outdir", scratch, str(ROOT)], check=True)
        problems = differences(_only(given.folder, "*.whl"), _only(Path(scratch), "*.whl"))
    problems += size_problems(_only(given.folder, "*.whl"))
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    for path in sorted(given.folder.iterdir()):
        sys.stdout.write(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB\n")
    return bool(problems)


def differences(first: Path, second: Path) -> list[str]:
    """One line for each file that two wheels do not share, in name and bytes."""
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        names = {*one.namelist()}, {*other.namelist()}
        problems = [f"only in {first}: {name}" for name in sorted(names[0] - names[1])]
        problems += [f"only in {second}: {name}" for name in sorted(names[1] - names[0])]
        shared = sorted(names[0] & names[1])
        return problems + [
            f"differs between the wheels: {name}" for name in shared if one.read(name) != other.read(name)
        ]


def size_problems(wheel: Path) -> list[str]:
    """A line if the wheel is too large."""
    size = wheel.stat().st_size
    return [] if size <= LARGEST_WHEEL else [f"{wheel} has {size:,} bytes; expected at most {LARGEST_WHEEL:,}"]


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"expected one {pattern} in {folder}, got {len(found)}")
    return found[0]


if __name__ == "__main__":
    raise SystemExit(main())
