import pytest

from metaprompts.errors import InputError
from metaprompts.training.trackers import naming_tracker


@pytest.mark.parametrize("error", [AttributeError("'NoneType' has no attribute 'write'"), OSError(28, "No space")])
def test_a_tracker_that_cannot_write_is_named(error):
    """Where the disk was full, TensorBoard ended a run with an AttributeError."""
    said = r"^tensorboard cannot write .*pass --training.report_to none"
    with pytest.raises(InputError, match=said), naming_tracker("tensorboard"):
        raise error
