"""The Ray engine, and the Ray block of docs/label.md, on a cluster of this machine."""

import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from metaprompts.errors import InputError
from metaprompts.scale.job import Done
from metaprompts.scale.local import label_here
from metaprompts.scale.run import run
from metaprompts.scale.source import Plan

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'metaprompts[ray]'")
pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'metaprompts[label]'")
from metaprompts.scale.ray_engine import label_with_ray, summary_line  # noqa: E402

DOC = Path(__file__).resolve().parents[2] / "docs/label.md"
one = partial(label_with_ray, workers=1)


@pytest.fixture(scope="module")
def _cluster():
    """One cluster for all tests: starting one takes seconds."""
    path = os.pathsep.join(["src", "tests"])
    environment = {"env_vars": {"PYTHONPATH": f"{path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}}
    # Actors cannot import this file.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


def files(job):
    return {path.name: path.read_bytes() for path in Path(job.folder.url).iterdir()}


class KilledOnce:
    """Kills its actor at slice 1, as often as a file says."""

    def __init__(self, job, device=None):
        self.folder = Path(job.out)

    def __call__(self, part):
        kills = self.folder / "kills"
        if part.number == 1 and (left := int(kills.read_text())):
            kills.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.folder / "done").open("a") as file:
            file.write(f"{part.number}\n")
        return Done(len(part.items), 0)


@pytest.mark.usefixtures("_cluster")
class TestOnACluster:
    def test_the_same_bytes_as_without(self, job, photos, tmp_path, monkeypatch):
        """The source is relative: actors run in folders of their own."""
        (photos / "bad.jpg").write_bytes(b"bad")
        monkeypatch.chdir(tmp_path)
        made = job("segmentation", "photos", format="parquet")
        summary = run(made, one)
        assert (summary.images, summary.errors) == (6, 1)
        found = files(made)
        (tmp_path / "out").rename(tmp_path / "first")
        run(made, label_here)
        assert files(made) == found
        assert run(made, one).earlier == 6

    def test_an_error_is_the_users_line(self, job, photos):
        with pytest.raises(
            InputError, match=r"^a detector applies only to pose, but the model predicts depth: omit it$"
        ):
            run(job("depth", photos, options={"device": "cpu", "detector": "micro-segmentation"}), one)

    def test_a_killed_actor_is_replaced_and_its_slice_labeled_again(self, job, photos):
        made = job("depth", photos)
        Path(made.out).mkdir()
        (Path(made.out) / "kills").write_text("1")
        assert list(one(made, iter(Plan(made.slices())), make_work=KilledOnce)) == [Done(2, 0), Done(2, 0), Done(1, 0)]
        assert sorted((Path(made.out) / "done").read_text().split()) == ["0", "1", "2"]

    def test_a_machine_without_the_source_is_one_line(self, job, photos):
        """Every image became a row with an error, and was never labeled again."""
        made = job("depth", photos)
        plan = Plan(made.slices())
        (photos / "a.png").unlink()
        with pytest.raises(InputError, match=r"a.png does not exist on machine .*: give a source that all machines"):
            list(one(made, iter(plan)))

    def test_the_block_of_the_docs_runs(self, tmp_path, photos):
        import pyarrow.parquet

        block = re.search(r"### Ray Data\n\n```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)[1]
        (photos / "notes.md").unlink()
        exec(compile(block.replace("/shared", str(tmp_path)), str(DOC), "exec"), {})
        table = pyarrow.parquet.read_table(tmp_path / "labels")
        assert sorted(map(Path, table["path"].to_pylist())) == sorted(photos.rglob("*.png"))
        assert table["error"].null_count == 5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "\x1b[36mray::f()\x1b[39m (pid=1)\n  File x\nModuleNotFoundError: No module named 'metaprompts'\n",
            "ModuleNotFoundError: No module named 'metaprompts'",
        ),
        ("The actor died unexpectedly.\n\tclass_name: _Actor\n", "The actor died unexpectedly"),
    ],
)
def test_errors_of_ray_are_one_line(text, line):
    assert summary_line(RuntimeError(text)) == line


def test_no_cluster_there(job, photos):
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(InputError, match=r"^no Ray cluster at 127.0.0.1:1: "):
        run(job("depth", photos), partial(one, address="127.0.0.1:1"))
