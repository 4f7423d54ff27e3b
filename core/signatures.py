"""Would a call of a function with these parameters bind?

Rule: told only when it is certain; runs nothing.

A worker calls a Python target with the task's parameters by name. Only a plain top-level function
is judged: a decorator, a class or an assignment may take anything.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from .tables import did_you_mean


def call_problem(file: Path, name: str, calls: Iterable[frozenset[str]]) -> tuple[str, str] | None:
    """(problem, remedy) for the first call, by these parameter names, that cannot bind; None when
    all may.
    """
    function = _function(file, name)
    if function is None:
        return None
    taken, needed = _parameters(function.args)
    for given in calls:
        missing = sorted(needed - given)
        unknown = sorted(given - taken) if function.args.kwarg is None else []
        if unknown:
            remedy = did_you_mean(unknown[0], taken - given)
            takes = f"It takes: {', '.join(sorted(taken))}. " if taken else "It takes none. "
            return (
                f"python: {name}() in {file} takes no {unknown[0]!r}, which the task has",
                f"{remedy}{takes}Each parameter is passed by its name.",
            )
        if missing:
            has = f"It has: {', '.join(sorted(given))}. " if given else "It has none. "
            return (
                f"python: {name}() in {file} needs {missing[0]!r}, which the task has not",
                f"{did_you_mean(missing[0], given)}{has}Add it to the array, or give it a default.",
            )
    return None


def _function(file: Path, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The one plain definition of `name` at the top level of the file, where there is just one."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError, OSError):
        return None
    found = [
        node for node in ast.walk(ast.Module(body=body, type_ignores=[])) if _binds(node, name)
    ]
    if len(found) != 1 or found[0] not in body:
        return None
    only = found[0]
    plain = isinstance(only, ast.FunctionDef | ast.AsyncFunctionDef) and not only.decorator_list
    return only if plain else None  # type: ignore[return-value]


def _binds(node: ast.AST, name: str) -> bool:
    """Whether the node gives `name` a meaning somewhere in the file."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name == name
    if isinstance(node, ast.Name):
        return node.id == name and isinstance(node.ctx, ast.Store)
    return isinstance(node, ast.alias) and (node.asname or node.name) == name


def _parameters(arguments: ast.arguments) -> tuple[set[str], set[str]]:
    """(those that may be given by name, those that must be given somehow)."""
    by_place = [*arguments.posonlyargs, *arguments.args]
    required = by_place[: len(by_place) - len(arguments.defaults)]
    needed = {each.arg for each in required}
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is None:
            needed.add(each.arg)
    return {each.arg for each in (*arguments.args, *arguments.kwonlyargs)}, needed
