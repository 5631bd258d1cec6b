import platform
import subprocess
import sys

import pytest
from torch import nn

from metaprompts.utils.malloc import trim_malloc

# Of twenty blocks of 8 MiB every other one is freed. Prints how many MiB then leave the process: as it is, when it is
# asked to give back, and of further blocks after that, of 12 MiB: of 8 MiB some would fit into the gaps of the first.
_GAPS = """
import resource, torch
from pathlib import Path
from metaprompts.utils.malloc import trim_malloc

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

def free_every_other(mib):
    blocks = [torch.ones(mib * 2**18) for _ in range(20)]
    full = resident()
    del blocks[::2]
    return full - resident(), blocks

with torch.device("meta"):
    large = torch.nn.Linear(2**14, 2**14)
# The first that is freed is what glibc learns from to keep such blocks.
learn = torch.ones(2**22)
del learn
left, blocks = free_every_other(8)
before = resident()
assert trim_malloc(large)
print(left, before - resident(), free_every_other(12)[0])
"""


def test_a_small_model_changes_nothing():
    assert not trim_malloc(nn.Linear(3, 3))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
@pytest.mark.slow
def test_freed_blocks_leave_the_process():
    found = subprocess.run([sys.executable, "-c", _GAPS], capture_output=True, check=True, text=True).stdout.split()
    assert [float(each) for each in found] == pytest.approx([0, 80, 120], abs=20)
