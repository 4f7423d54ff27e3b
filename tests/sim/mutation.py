"""Taking a rule out of the product, in this process only. Rule: an edit is a piece of the source of
one function; when that piece is no longer there, the catalogue is out of date and says so.
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, NamedTuple

FUTURE = __future__.annotations.compiler_flag


class Edit(NamedTuple):
    """Replace `old` by `new` in the function `where`: "module:Class.method" below dtf."""

    where: str
    old: str
    new: str


class Outdated(Exception):
    """The code does not read as the catalogue says."""


def function_of(where: str) -> FunctionType:
    """The function an edit names."""
    module, _, path = where.partition(":")
    found: Any = importlib.import_module(f"dtf.{module}")
    for name in path.split("."):
        found = vars(found)[name] if isinstance(found, type) else getattr(found, name)
    if isinstance(found, staticmethod):
        found = found.__func__
    if not isinstance(found, FunctionType):
        raise Outdated(f"{where} is no plain function")
    return found


def apply(edits: tuple[Edit, ...]) -> Callable[[], None]:
    """Change the code of the functions, wherever they are referred to from; what undoes it.

    Raises `Outdated`.
    """
    before: list[tuple[FunctionType, CodeType]] = []
    for where in dict.fromkeys(edit.where for edit in edits):
        function = function_of(where)
        source = textwrap.dedent(inspect.getsource(function))
        for edit in edits:
            if edit.where == where:
                if source.count(edit.old) != 1:
                    times = source.count(edit.old)
                    raise Outdated(f"{where} holds {times} times: {edit.old!r}")
                source = source.replace(edit.old, edit.new)
        before.append((function, function.__code__))
        function.__code__ = _code(source, function)

    def undo() -> None:
        for function, code in before:
            function.__code__ = code

    return undo


def _code(source: str, function: FunctionType) -> CodeType:
    module = compile(source, f"<mutant of {function.__qualname__}>", "exec", FUTURE, True)
    for constant in module.co_consts:
        if isinstance(constant, CodeType) and constant.co_name == function.__name__:
            if constant.co_freevars != function.__code__.co_freevars:
                raise Outdated(f"{function.__qualname__} refers to names outside of it")
            return constant
    raise Outdated(f"no function {function.__name__} in its own source")
