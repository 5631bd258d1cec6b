"""Label slices with Ray: on a running cluster, or on one started on this machine."""

import logging
import math
import os
import pickle
import re
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from metaprompts.errors import InputError, one_line
from metaprompts.scale.job import Done, LabelJob, MakeWork, SliceLabeler, Work
from metaprompts.scale.source import Slice
from metaprompts.scale.storage import is_url
from metaprompts.utils.progress import report_lines
from metaprompts.utils.telemetry import switch_off_telemetry

# A killed actor also fails the slices that were queued for it, so slices are retried more often than with processes.
_RETRIES = 4
# One slice is labeled while the next one is on its way.
_IN_FLIGHT = 2
# Holds descriptions of slices, no images; Ray's minimum is 75 MiB.
_STORE_BYTES = 200 * 2**20
_STDERR = 2
_CONNECT_SECONDS = 20
_COLOR, _ERROR = re.compile(r"\x1b\[\d+m"), re.compile(r"[\w.]*(Error|Exception): ")


def label_with_ray(
    job: LabelJob,
    slices: Iterator[Slice],
    *,
    workers: int,
    address: str | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    make_work: MakeWork = SliceLabeler,
) -> Iterator[Done]:
    """Label slices with a pool of Ray actors, each with its own copy of the model; yields results as they finish.

    Args:
        job: the job
        slices: the slices to label
        workers: number of actors
        address: address of a running cluster, "auto" for the one on this machine; None starts one
        cpus: CPU cores of an actor
        gpus: GPUs of an actor, for example 0.5; None shares the cluster's GPUs among the actors
        make_work: makes the object that labels a job's slices on a device

    Raises:
        InputError: Ray is not installed, the cluster cannot be reached, or an actor raised this error
    """
    ray = import_ray()
    with _connected(ray, address, workers, cpus):
        gpus = _gpu_share(ray, job, workers) if gpus is None else gpus
        _check_nodes(ray, cpus, gpus)
        # One slice in each block, so that each is scheduled on its own.
        blocks = [{"slice": part.packed()} for part in slices]
        device = "cuda" if gpus else job.options.get("device") or "cpu"
        with warnings.catch_warnings():
            # max_task_retries has no other place; without it, Ray would try forever.
            warnings.simplefilter("ignore", DeprecationWarning)
            done = ray.data.from_items(blocks, override_num_blocks=len(blocks)).map_batches(
                _Actor,
                fn_constructor_args=[job, device, str(Path.cwd()), make_work],
                batch_size=None,
                compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=_IN_FLIGHT),
                num_cpus=cpus,
                num_gpus=gpus,
                max_task_retries=_RETRIES,
            )
        del blocks
        try:
            for row in done.iter_rows():
                if row["failure"]:
                    raise pickle.loads(row["failure"])
                yield Done(int(row["images"]), int(row["errors"]))
        except ray.exceptions.RayError as error:
            raise InputError(f"Ray: {summary_line(error)}; run the same command again to resume") from error


class _Actor:
    """Labels slices; loads the model once."""

    def __init__(self, job: LabelJob, device: str, folder: str, make_work: MakeWork) -> None:
        # Paths of the source may be relative to the folder of the command.
        with suppress(OSError):
            os.chdir(folder)
        self._job, self._device, self._make_work = job, device, make_work
        self._work: Work | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Label a batch of slices."""
        results = [self._result(Slice.unpacked(bytes(packed))) for packed in batch["slice"]]
        return {name: [each[name] for each in results] for name in ("images", "errors", "failure")}

    def _result(self, part: Slice) -> dict[str, Any]:
        # Ray would wrap an error into pages of its own, and try again.
        try:
            _check_reachable(part)
            self._work = self._work or self._make_work(self._job, self._device)
            return {**self._work(part)._asdict(), "failure": b""}
        except Exception as error:
            return {"images": 0, "errors": 0, "failure": pickle.dumps(error)}


def _check_reachable(part: Slice) -> None:
    """Check that this machine can read the source; otherwise each image would become a row with an error."""
    first = part.items[0]
    if not is_url(first.file) and first.version != "missing" and not Path(first.file).exists():
        where = Path(first.file).absolute()
        raise InputError(
            f"{where} does not exist on machine {socket.gethostname()}: give a source that all machines reach by the "
            "same path, or a URL"
        )


@contextmanager
def _connected(ray: Any, address: str | None, workers: int, cpus: float) -> Iterator[None]:
    """Connect to a cluster, unless this process is connected already."""
    if ray.is_initialized():
        yield
        return
    _check_address(address)
    options: dict[str, Any] = {"address": address}
    if address is None:
        # Without "local", Ray would look for a running cluster.
        options = {"address": "local", "num_cpus": math.ceil(workers * cpus) + 1, "include_dashboard": False}
        options["object_store_memory"] = _STORE_BYTES
    try:
        with _same_signals(), _silent_stderr():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises errors of any type
        reason = summary_line(error)
        if address is None:
            raise InputError(f"a cluster on this machine cannot be started: {reason}") from error
        # Ray enables tokens by itself only for the address auto, and does not name them in its error.
        advice = "" if "RAY_AUTH_MODE" in os.environ else "; if the cluster asks for a token, set RAY_AUTH_MODE=token"
        raise InputError(f"no Ray cluster at {address}: {reason}{advice}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str | None) -> None:
    """Ray itself tries for minutes to reach an address at which nothing listens."""
    host, _, port = (address or "").rpartition(":")
    if not host or "://" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster at {address}: {one_line(error)}") from error


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard the startup output of Ray's C++ processes; Ray raises errors as exceptions."""
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


@contextmanager
def _same_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces."""
    former = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, former)


def _gpu_share(ray: Any, job: LabelJob, workers: int) -> float:
    """The GPUs of an actor, if all actors share those of the cluster."""
    count = int(ray.cluster_resources().get("GPU", 0))
    wanted = job.options.get("device") in (None, "cuda")
    return 1 / math.ceil(workers / count) if count and wanted else 0.0


def _check_nodes(ray: Any, cpus: float, gpus: float) -> None:
    """Report if no machine has room for an actor: Ray itself waits silently for such a machine to join."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        report_lines(
            [f"no machine of the Ray cluster has {cpus:g} CPU cores and {gpus:g} GPUs for a worker; waiting for one"]
        )


def summary_line(error: BaseException) -> str:
    """Shorten Ray's multi-line error messages to one line: the innermost traceback's error, or else the first line."""
    lines = [_COLOR.sub("", line).strip() for line in str(error).splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines[:1] or [one_line(error)])[-1].rstrip(".:")


def import_ray() -> Any:
    """Import Ray with its data library.

    Raises:
        InputError: Ray is not installed
    """
    switch_off_telemetry()
    # Lines of its C++ parts, which neither log levels nor log_to_driver silence.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            f"--engine ray needs Ray ({one_line(error)}): pip install 'metaprompts[ray]', or give --engine local"
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray
