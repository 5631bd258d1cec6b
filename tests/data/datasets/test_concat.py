import pytest

from metaprompts.data.datasets.views import ConcatSamples


class Words(list):
    """Stands for a data set."""


def test_parts_follow_each_other():
    joined = ConcatSamples([Words("ab"), Words(""), Words("c"), Words("def")])
    assert len(joined) == 6
    assert [joined[place] for place in range(6)] == list("abcdef")
    assert joined[-1] == "f"
    for place in (6, -7):
        with pytest.raises(IndexError):
            joined[place]
