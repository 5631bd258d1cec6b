"""Measure metaprompts label at scale; docs/label.md quotes the numbers.

python benchmarks/label_scale.py workers   # images/s of one and two processes and two Ray actors, on 2 idle cores
python benchmarks/label_scale.py nodes     # efficiency of a simulated Ray cluster of 8 machines, shards of 1 s
python benchmarks/label_scale.py rows      # memory of the command, and time to plan, with 1,000,000 images
"""

import argparse
import fcntl
import io
import json
import os
import resource
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from metaprompts.data.shards.codec import png
from metaprompts.scale.images import Content, read_items
from metaprompts.scale.job import Done, LabelJob, SliceLabeler, task_facts
from metaprompts.scale.label import Label
from metaprompts.scale.labeler import Labeler, model_fingerprint
from metaprompts.scale.local import label_in_processes
from metaprompts.scale.parquet_results import write_labels
from metaprompts.scale.run import run
from metaprompts.scale.source import Plan, Slice

MODEL = "micro-segmentation"


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["workers", "nodes", "rows"])
    parser.add_argument("--repeats", type=int, default=5, help="workers: rounds, in which the three alternate")
    parser.add_argument("--images", type=int, default=192, help="workers: images of a run")
    parser.add_argument("--nodes", type=int, default=8, help="nodes: machines")
    parser.add_argument("--shards", type=int, default=40, help="nodes: shards of each machine")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows: images")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="rows: engine")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "label-scale")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    {"workers": compare_workers, "nodes": simulate_nodes, "rows": label_rows}[options.what](options)


def job_of(folder: Path, source: Path, shard_size: int) -> LabelJob:
    """A job of which nothing is done."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    return LabelJob(
        model=MODEL,
        fingerprint=model_fingerprint(MODEL),
        source=str(source),
        out=str(folder / "out"),
        shard_size=shard_size,
        options={"device": "cpu", "batch_size": 4, "precision": "fp32"},
    )


# One worker, two workers, two Ray actors.


class Pinned(SliceLabeler):
    """Takes a core of its own, and computes with one thread."""

    def __init__(self, job: LabelJob, device: str | None) -> None:
        self._core = _free_core(Path(job.out).parent)
        torch.set_num_threads(1)
        super().__init__(job, device)


def _free_core(folder: Path) -> Any:
    for core in sorted(os.sched_getaffinity(0)):
        file = (folder / f"core{core}").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        os.sched_setaffinity(0, {core})
        return file
    raise SystemExit("there are more workers than cores")


def compare_workers(options: argparse.Namespace) -> None:
    """Measure one process, two processes and two Ray actors in turns."""
    from metaprompts.scale.ray_engine import label_with_ray

    source = options.folder / "images"
    _write_images(source, options.images)
    runners = {
        "one process": lambda job, parts: label_in_processes(job, parts, 1, Pinned),
        "two processes": lambda job, parts: label_in_processes(job, parts, 2, Pinned),
        "two Ray actors": lambda job, parts: label_with_ray(job, parts, workers=2, make_work=Pinned),
    }
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(options.repeats):
        for name, runner in runners.items():
            job = job_of(options.folder, source, 4)
            workers = 1 if name == "one process" else 2
            rates[name].append(_steady_rate(runner(job, iter(Plan(job.slices()))), workers))
            say(f"round {number}: {name} {rates[name][-1]:.2f} images/s")
    median = {name: statistics.median(found) for name, found in rates.items()}
    say(", ".join(f"{name} {value:.2f} images/s" for name, value in median.items()))
    say(f"two processes / (2 x one process): {median['two processes'] / (2 * median['one process']):.3f}")
    say(f"two Ray actors / two processes: {median['two Ray actors'] / median['two processes']:.3f}")


def _steady_rate(results: Iterator[Done], workers: int) -> float:
    """Images/s without the start of the workers and without the end, when only some work."""
    found = [(time.monotonic(), done.images) for done in results]
    # The first results of each worker also took the loading of the model.
    middle = found[4 * workers : -2 * workers]
    return sum(images for _, images in middle[1:]) / (middle[-1][0] - middle[0][0])


def _write_images(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:05d}.png"
        if not path.exists():
            Image.fromarray(generator.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(path)


# A simulated cluster.


class Sleeper:
    """Takes one second for a shard, and notes when."""

    def __init__(self, job: LabelJob, device: str | None) -> None:
        self._file = (Path(job.out) / f"{os.getpid()}.jsonl").open("a")

    def __call__(self, part: Slice) -> Done:
        """Sleep."""
        began = time.time()
        time.sleep(1)
        self._file.write(json.dumps([began, time.time()]) + "\n")
        self._file.flush()
        return Done(len(part.items), 0)


def simulate_nodes(options: argparse.Namespace) -> None:
    """Measure a simulated cluster."""
    import ray
    from ray.cluster_utils import Cluster

    from metaprompts.scale.ray_engine import label_with_ray

    source = options.folder / "sleepers"
    _write_images(source, 1)
    (source / "list.txt").write_text("00000.png\n" * options.nodes * options.shards)
    job = job_of(options.folder, source / "list.txt", 1)
    Path(job.out).mkdir()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20})
    for _ in range(options.nodes):
        cluster.add_node(num_cpus=2, object_store_memory=80 * 2**20)
    ray.init(cluster.address, log_to_driver=False)
    # Two cores of each machine are one actor's, so each machine has one.
    done = list(label_with_ray(job, iter(Plan(job.slices())), workers=options.nodes, cpus=2, gpus=0, make_work=Sleeper))
    ray.shutdown()
    cluster.shutdown()
    assert len(done) == options.nodes * options.shards
    report_efficiency([_spans(path) for path in sorted(Path(job.out).glob("*.jsonl"))])


def _spans(path: Path) -> list[tuple[float, float]]:
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


def report_efficiency(spans: list[list[tuple[float, float]]]) -> None:
    """Busy seconds of all actors in those that all had, from the first shard of the last actor to the last shard."""
    begin, end = max(each[0][0] for each in spans), max(each[-1][1] for each in spans)
    busy = sum(max(0.0, min(stop, end) - max(start, begin)) for each in spans for start, stop in each)
    first = min(each[0][0] for each in spans)
    say(f"{len(spans)} actors, {[len(each) for each in spans]} shards; the last one began {begin - first:.1f} s late")
    say(f"efficiency from then to the end: {busy / (len(spans) * (end - begin)):.3f} ({end - begin:.1f} s)")
    gaps = [later[0] - earlier[1] for each in spans for earlier, later in pairwise(each)]
    say(f"between two shards of an actor: median {statistics.median(gaps) * 1e3:.1f} ms, most {max(gaps) * 1e3:.0f} ms")


# A million rows.


class Stub:
    """Labels without a model: all rows are alike."""

    def __init__(self, job: LabelJob, device: str | None) -> None:
        self._job = job
        task = Labeler(job.model, device="cpu").model.task
        self._facts = {"fingerprint": job.fingerprint, "depth_scale": 1.0, **task_facts(task)}
        self._png = png(np.zeros((32, 32), np.uint8))

    def __call__(self, part: Slice) -> Done:
        """Read the images of a slice, and write its labels."""
        with self._job.folder.writing(self._job.file(part)) as path:
            write_labels(path, map(self._labeled, read_items(part.items)), self._facts)
        return Done(len(part.items), 0)

    def _labeled(self, content: Content) -> tuple[Content, Label, Any]:
        assert content.content is not None
        label = Label(path=content.name, height=32, width=32, prediction=self._png, confidence=0.5)
        return content, label, None


def label_rows(options: argparse.Namespace) -> None:
    """Measure many images."""
    source = options.folder / f"tars-{options.rows}"
    _write_tars(source, options.rows)
    job = job_of(options.folder, source / "*.tar", 1000)
    began, used = time.monotonic(), time.process_time()
    plan = Plan(job.slices())
    seconds, computed = time.monotonic() - began, time.process_time() - used
    say(f"{plan.images} images in {len(plan)} slices: planned in {seconds:.1f} s, {computed:.1f} s of CPU")
    held: list[int] = []

    def runner(job: LabelJob, parts: Iterator[Slice]) -> Iterator[Done]:
        if options.engine == "ray":
            from metaprompts.scale.ray_engine import label_with_ray

            results = label_with_ray(job, parts, workers=2, make_work=Stub)
        else:
            results = label_in_processes(job, parts, 2, Stub)
        for done in results:
            held.append(_resident())
            yield done

    began = time.monotonic()
    summary = run(job, runner)
    assert (summary.images, summary.unfinished) == (options.rows, 0)
    tenths = [held[len(held) * tenth // 10] // 10**6 for tenth in range(10)]
    say(f"{options.engine}: {summary.images} images in {time.monotonic() - began:.0f} s")
    say(f"memory of the command at each tenth: {tenths} MB")
    say(f"its peak: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:.0f} MB")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _write_tars(folder: Path, rows: int) -> None:
    """A thousand images of 32x32 in each file."""
    folder.mkdir(exist_ok=True)
    file = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file, "PNG")
    first = folder / "000000.tar"
    with tarfile.open(first, "w", format=tarfile.USTAR_FORMAT) as tar:
        for image in range(1000):
            info = tarfile.TarInfo(f"{image:03d}.png")
            info.size = file.tell()
            tar.addfile(info, io.BytesIO(file.getvalue()))
    for number in range(1, rows // 1000):
        shutil.copyfile(first, folder / f"{number:06d}.tar")


if __name__ == "__main__":
    main()
