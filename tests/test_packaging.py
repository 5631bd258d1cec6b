"""What a release consists of: metadata, the long description, the distributions, the container, the workflows."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from check_dist import differences, size_problems

import metaprompts

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def long_description() -> str:
    """README.md after the substitutions of pyproject.toml, which hatch-fancy-pypi-readme applies in the same way."""
    text = README
    for each in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    return text


def test_long_description_has_no_relative_target():
    """Package indexes show README.md alone: its images were broken there, and its links led nowhere."""
    assert len(re.findall(r"!\[", README)) >= 5
    text = long_description()
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert targets
    assert all(target.startswith("https://") for target in targets)
    assert "![" not in text
    assert "`docs/pictures/demo.jpg`" in text


def test_long_description_keeps_its_code():
    assert re.findall(r"```python\n.*?```", long_description(), flags=re.DOTALL) == re.findall(
        r"```python\n.*?```", README, flags=re.DOTALL
    )


def test_only_true_addresses():
    urls = PROJECT["project"]["urls"]
    assert list(urls) == ["Paper", "Authors' code"]
    assert all(url in README for url in urls.values())
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]
    assert (ROOT / "src/metaprompts/py.typed").is_file()


def test_import_reads_no_metadata():
    """The version comes from the installed metadata, whose search is slow: it is read on first use."""
    code = "import sys, metaprompts; print('importlib.metadata' in sys.modules, metaprompts.__version__)"
    # Without site: the .pth file of an editable installation may import the module itself.
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    output = subprocess.check_output([sys.executable, "-S", "-c", code], text=True, env=environment)
    seen, version = output.split()
    assert seen == "False"
    assert re.match(r"\d+\.\d+", version)


def test_version_of_a_copy_without_installation(monkeypatch):
    import importlib.metadata

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert metaprompts.__version__ == "0.0.0"


def written_wheel(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_differences_between_wheels(tmp_path):
    first = written_wheel(tmp_path / "a.whl", same="1", changed="1", lost="1")
    second = written_wheel(tmp_path / "b.whl", same="1", changed="2", new="1")
    assert differences(first, first) == []
    assert differences(first, second) == [
        f"only in {first}: lost",
        f"only in {second}: new",
        "differs between the wheels: changed",
    ]


def test_size_of_a_wheel(tmp_path):
    path = tmp_path / "a.whl"
    with path.open("wb") as file:
        file.truncate(45_000_000)
    assert size_problems(path) == []
    with path.open("ab") as file:
        file.write(b"1")
    assert size_problems(path) == [f"{path} has 45,000,001 bytes; expected at most 45,000,000"]


@pytest.mark.full
def test_source_distribution_builds_the_same_wheel(tmp_path):
    for module in ("build", "hatchling", "hatch_vcs", "hatch_fancy_pypi_readme"):
        pytest.importorskip(module)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    check = [sys.executable, str(ROOT / "scripts/check_dist.py"), "--no-isolation", str(tmp_path)]
    subprocess.run(check, check=True, capture_output=True)


DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# Options that only containers need.
ONLY_THERE = (" --no-cache-dir", " --system", " --no-cache")


def test_dockerfile_installs_as_the_readme_says():
    """Commands of the Dockerfile are those of the README, for the CPU by default."""
    assert "\nARG BACKEND=cpu\n" in DOCKERFILE
    joined = DOCKERFILE.replace("\\\n", " ").replace("$BACKEND", "cpu")
    commands = [each.strip() for each in re.findall(r"(?:RUN|&&)\s+((?:uv )?pip install [^&\n]*)", joined)]
    assert len(commands) == 2
    for command in commands:
        for option in ONLY_THERE:
            command = command.replace(option, "")
        assert f"    {command}\n" in README
    assert "docker build --tag metaprompts .\n" in DOCKERFILE
    assert "    docker build --tag metaprompts .\n" in README
    assert "--build-arg BACKEND=cu130" in DOCKERFILE
    assert "`--build-arg BACKEND=cu130`" in README
    assert 'ENTRYPOINT ["metaprompts"]' in DOCKERFILE


def test_dockerfile_installs_extras_that_exist():
    for extras in re.findall(r"'\.\[([^\]]*)\]'", DOCKERFILE + README):
        assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_workflows_run_targets_that_exist():
    """Every supported Python is tested, and each ``make`` target of a workflow is in the Makefile."""
    yaml = pytest.importorskip("yaml")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    versions = {each.split(" :: ")[-1] for each in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", each)}
    tested = set()
    for path in sorted((ROOT / ".github/workflows").glob("*.yml")):
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            commands = [step["run"] for step in job["steps"] if "run" in step]
            for command in commands:
                if command.startswith("make"):
                    assert re.search(rf"^{command.split()[-1]}:", makefile, flags=re.MULTILINE), command
                if command.endswith(" test"):
                    tested |= set(job["strategy"]["matrix"]["python"])
    assert tested == versions


def test_yaml_files_can_be_read():
    yaml = pytest.importorskip("yaml")
    files = [ROOT / "CITATION.cff", *(ROOT / ".github").rglob("*.yml")]
    assert len(files) >= 5
    for path in files:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path
    cited = yaml.safe_load(files[0].read_text(encoding="utf-8"))["preferred-citation"]
    assert cited["title"] in " ".join(README.split())
    assert " and ".join(f"{each['family-names']}, {each['given-names']}" for each in cited["authors"]) in README
