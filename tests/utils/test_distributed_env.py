import pytest

from metaprompts.errors import InputError
from metaprompts.utils.distributed_env import is_first_process, process_count, process_rank

TWO = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    for name in TWO:
        monkeypatch.delenv(name, raising=False)

    def put(values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def test_what_torchrun_sets(environment):
    environment(TWO)
    assert (process_count(), process_rank(), is_first_process()) == (2, 1, False)


@pytest.mark.parametrize("rank", ["1", "abc"])
def test_a_rank_without_torchrun_is_none(environment, rank):
    """A variable RANK of something else silenced a process that was alone."""
    environment({"RANK": rank})
    assert (process_count(), process_rank(), is_first_process()) == (1, 0, True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"RANK": "abc"}, "RANK='abc'"),
        ({"RANK": ""}, "RANK=''"),
        ({"RANK": "2"}, "RANK=2 and WORLD_SIZE=2; expected a rank below 2"),
        ({"MASTER_PORT": "x"}, "MASTER_PORT='x'"),
    ],
)
def test_a_rank_or_port_that_cannot_be_is_one_line(environment, wrong, said):
    """RANK=abc ended in a ValueError of PyTorch, and a rank that is too high waited for days."""
    environment({**TWO, **wrong})
    for ask in (process_count, process_rank, is_first_process):
        with pytest.raises(InputError, match=said):
            ask()
