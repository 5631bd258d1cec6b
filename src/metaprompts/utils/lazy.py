"""Modules that are imported when they are first used.

PyTorch takes seconds to import. Modules that define recipe settings import it lazily, so that ``--help`` and shell
completion do not wait for it.
"""

from importlib import import_module
from types import ModuleType
from typing import Any


class _LazyModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        module = import_module(self.__name__)
        # From now on, attributes are found without this method.
        self.__dict__.update(module.__dict__)
        return getattr(module, name)


def lazy_module(name: str) -> Any:
    """A stand-in for a module, which imports the module when an attribute is first used.

    Args:
        name: full name of the module
    """
    return _LazyModule(name)
