"""Which conftest.py files the client must import. Rule: when in doubt, import, as pytest does.

A conftest that only offers fixtures and hooks of running tests is the workers' business; importing
it here would cost its imports (models, device drivers) for nothing. Decided on the syntax tree.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WORKER_HOOKS = frozenset(
    {
        "pytest_runtest_protocol",
        "pytest_runtest_setup",
        "pytest_runtest_call",
        "pytest_runtest_teardown",
        "pytest_runtest_makereport",
        "pytest_fixture_setup",
        "pytest_fixture_post_finalizer",
        "pytest_generate_tests",
        "pytest_collection_modifyitems",
        "pytest_collection_finish",
        "pytest_make_parametrize_id",
        "pytest_make_collect_report",
        "pytest_collectstart",
        "pytest_itemcollected",
        "pytest_pycollect_makeitem",
        "pytest_pyfunc_call",
        "pytest_assertrepr_compare",
        "pytest_assertion_pass",
        "pytest_exception_interact",
    }
)
"""Hooks that only the process that runs tests calls."""
_OPAQUE = frozenset({"globals", "locals", "vars", "exec", "eval", "setattr"})
"""Names a module may define hooks with unseen, when it uses them while it is imported."""


def must_import(file: Path) -> bool:
    """Whether the process that collects and reports needs this conftest."""
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (OSError, SyntaxError, ValueError):
        return True  # pytest tells what is wrong with it
    return any(_matters(node) for node in _top_level(tree.body))


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run at import, those of `if`, `try`, `with` and loops included."""
    for node in body:
        yield node
        for name in ("body", "orelse", "finalbody"):
            inner = getattr(node, name, None)
            if isinstance(inner, list) and not isinstance(
                node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
            ):
                yield from _top_level(inner)
        for handler in getattr(node, "handlers", ()):
            yield from _top_level(handler.body)


def _matters(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return _is_hook(node.name) and not _only_registers_markers(node)
    if isinstance(node, ast.ClassDef):
        return False
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.asname or alias.name for alias in node.names]
        return any(name == "*" or _is_hook(name) for name in names)
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            continue  # reached as a statement of its own
        if isinstance(part, ast.Name) and (part.id in _OPAQUE or _is_hook(part.id)):
            return True
    return False


def _is_hook(name: str) -> bool:
    if name in ("pytest_plugins", "collect_ignore", "collect_ignore_glob"):
        return True
    return name.startswith("pytest_") and name not in WORKER_HOOKS


def _only_registers_markers(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A `pytest_configure` of nothing but `config.addinivalue_line("markers", "...")`."""
    if node.name != "pytest_configure":
        return False
    return all(_is_constant(each) or _is_marker_line(each) for each in node.body)


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _is_marker_line(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "addinivalue_line"
        and not call.keywords
        and all(isinstance(each, ast.Constant) for each in call.args)
        and isinstance(call.args[0], ast.Constant)
        and call.args[0].value == "markers"
    )


def spare(pluginmanager: Any) -> None:
    """From now on the plugin manager imports only conftests that `must_import`; others count as
    empty modules.
    """
    load: Callable[..., types.ModuleType] = pluginmanager._importconftest

    def gate(path: Path, *args: Any, **options: Any) -> types.ModuleType:
        if must_import(path):
            return load(path, *args, **options)
        empty = types.ModuleType("conftest")
        empty.__file__ = str(path)
        return empty

    pluginmanager._importconftest = gate
