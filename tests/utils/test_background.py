import threading

import pytest

from metaprompts.utils.background import WriteBehind, read_ahead


def test_the_next_item_is_read_while_the_last_one_is_used():
    """predict decoded, computed and wrote one image after another, so the engine waited for both."""
    second_read = threading.Event()

    def read(item: int) -> int:
        if item == 2:
            second_read.set()
        return 10 * item

    results = read_ahead([1, 2, 3], read)
    assert next(results) == 10
    assert second_read.wait(60)
    assert list(results) == [20, 30]


def test_an_error_of_reading_is_raised_at_its_place():
    def read(item: int) -> float:
        return 1 / item

    results = read_ahead([1, 0, 2], read)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_results_are_written_while_the_caller_works_and_in_order():
    caller_went_on, written = threading.Event(), []
    with WriteBehind() as writer:
        writer.run(lambda: written.append(caller_went_on.wait(60)))
        caller_went_on.set()
        writer.run(lambda: written.append("second"))
    assert written == [True, "second"]


def test_an_error_of_writing_is_raised_by_the_next_call_or_at_the_end():
    def fail() -> None:
        raise OSError("disk full")

    with WriteBehind() as writer:
        writer.run(fail)
        with pytest.raises(OSError, match="disk full"):
            writer.run(lambda: None)
    with pytest.raises(OSError, match="disk full"), WriteBehind() as writer:
        writer.run(fail)
