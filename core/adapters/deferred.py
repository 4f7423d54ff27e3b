"""Modules that are loaded when something of them is first used.

Rule: only for what a library imports and we never call; whoever does use it finds it whole.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """Stands in `sys.modules`; becomes the module when asked for a name it has not."""

    def __getattr__(self, name: str) -> Any:
        # Not importlib's LazyLoader: it loads already when the import system looks at `__spec__`.
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def defer(package: str, name: str) -> None:
    """`package.name` is loaded at its first use. Without effect where it is loaded already.

    nats-py imports its JetStream client with everything else: 40 ms in each process that connects,
    and we have our own.
    """
    whole = f"{package}.{name}"
    if whole in sys.modules or package in sys.modules:
        return
    above = importlib.util.find_spec(package)
    spec = PathFinder.find_spec(whole, above.submodule_search_locations if above else None)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Deferred
    sys.modules[whole] = module
    setattr(importlib.import_module(package), name, module)
