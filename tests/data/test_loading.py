import resource
import subprocess
import sys

import pytest

from metaprompts.data.loading import check_open_files, naming_lost_workers
from metaprompts.errors import InputError


class TestOpenFiles:
    def test_too_few_are_refused(self):
        """With `ulimit -n 64` and processes that read, a run waited for ever."""
        code = (
            "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
            "from metaprompts.data.loading import check_open_files\n"
            "check_open_files(0, 2)\n"
            "check_open_files(2, 2)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "need 192 open files, but the limit is 64: run ulimit -n 192, or data.num_workers 0" in done.stderr

    def test_the_limit_is_raised_as_far_as_the_system_lets(self):
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        if before[1] != resource.RLIM_INFINITY and before[1] < 512:
            pytest.skip("needs a higher limit")
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
            check_open_files(4, 2)
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, before[1])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. ... out of shared memory.", "/dev/shm"),
        ("unable to write to file </torch_7_8_9>: No space left on device (28)", "/dev/shm"),
        ("DataLoader worker (pid 7) is killed by signal: Killed.", "lower data.num_workers"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "lower data.num_workers"),
    ],
)
def test_a_lost_worker_is_one_line(text, words):
    """A small /dev/shm showed workers' tracebacks."""
    with pytest.raises(InputError, match=words), naming_lost_workers():
        raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="else"), naming_lost_workers():
        raise RuntimeError("something else")
