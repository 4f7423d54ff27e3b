"""Does what a suite names exist? Rule: told where the suite is read, not an hour later by a worker.

Looks at names only and runs nothing: a module is found as a file below the bundle root or as an
installed package; a callable by parsing the file. What cannot be known (a module that builds its
names at run time) passes.
"""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import InvalidSuite
from .placeholders import placeholders
from .signatures import call_problem
from .suite_plan import Suite, TaskPlan
from .tables import did_you_mean

_INTERPRETERS = ("python", "bash", "sh", "node")
_SKIP = "If it exists on the workers only, say check = false."


def check_files(suite: Suite) -> None:
    """Raises `InvalidSuite` for a script, program, test file, module or callable that is not there.

    Nothing is checked for a suite that ships nothing: its code is on the workers.
    """
    if suite.bundle is None:
        return
    for task in suite.tasks:
        if task.check:
            problem = _target_problem(task, suite.bundle.root) or _command_problem(
                task, suite.bundle.root
            )
            if problem:
                raise InvalidSuite(
                    f"{suite.path}: task {task.label!r}: {problem[0]}", remedy=problem[1]
                )


def shipped_files(task: TaskPlan, root: Path) -> list[str]:
    """Files below the bundle root that the task names, with forward slashes."""
    target = task.spec.target
    if task.pytest is not None:
        return [file["path"] for each in task.params or () for file in each["files"]]
    if not target:
        return [word for word in _named_files(task.spec.command) if (root / word).is_file()]
    if ":" not in target:
        return [Path(target).as_posix()]
    found = _module_file(root, target.partition(":")[0])
    return [found.relative_to(root).as_posix()] if found else []


def _target_problem(task: TaskPlan, root: Path) -> tuple[str, str] | None:
    target = task.spec.target
    if not target:
        return None
    module, colon, attribute = target.partition(":")
    if not colon:
        return None if (root / target).is_file() else _no_file("python", target, root)
    file = _module_file(root, module)
    if file is None:
        top = module.split(".")[0]
        here = (root / top).is_dir() or (root / f"{top}.py").is_file()
        if not here and _installed(top):
            return None
        return (
            f"python: no module {module!r} below {root}" + ("" if here else ", nor installed here"),
            did_you_mean(module, _modules_below(root)) + _SKIP,
        )
    names = _names_of(file)
    first = attribute.split(".")[0]
    if names is None or first in names:
        return call_problem(file, attribute, _parameter_sets(task))
    return f"python: {file} has no {first!r}", did_you_mean(first, names) + _SKIP


def _parameter_sets(task: TaskPlan) -> set[frozenset[str]]:
    """The names of parameters that tasks of the array have: one set for each kind of task."""
    if task.matrix is not None:
        return {frozenset(task.matrix.axes)}
    return {frozenset(each) for each in task.params or [{}]}


def _module_file(root: Path, module: str) -> Path | None:
    path = root.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _installed(top: str) -> bool:
    """Whether a top-level module of that name can be imported here. Imports nothing."""
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _names_of(file: Path) -> set[str] | None:
    """The names a module defines at its top level; None where they cannot be known."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError, OSError):
        return None
    names: set[str] = set()
    for node in ast.walk(ast.Module(body=body, type_ignores=[])):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return None if "*" in names or "__getattr__" in names else names


def _command_problem(task: TaskPlan, root: Path) -> tuple[str, str] | None:
    for word in _named_files(task.spec.command):
        if not (root / word).exists():
            return _no_file("command", word, root)
    return None


def _named_files(command: list[str]) -> Iterator[str]:
    """The words of a command that are surely files of the bundle: its program when it is a relative
    path, the script an interpreter is given, and the test files of pytest.
    """
    if not command:
        return
    program, words = command[0], command[1:]
    if "/" in program and not os.path.isabs(program) and not placeholders(program):
        yield program
    name = os.path.basename(program)
    if name.rstrip("0123456789.") in _INTERPRETERS:
        script = words[0] if words and not words[0].startswith("-") else ""
        if script.endswith((".py", ".sh", ".js")):
            words = [script]
        elif words[:2] == ["-m", "pytest"]:
            words, name = words[2:], "pytest"
        else:
            return
    elif name != "pytest":
        return
    for word in words:
        file = word.partition("::")[0]
        if (
            file.endswith((".py", ".sh", ".js"))
            and not word.startswith("-")
            and not placeholders(file)
            and not os.path.isabs(file)
        ):
            yield file


def _no_file(key: str, name: str, root: Path) -> tuple[str, str]:
    folder = (root / name).parent
    beside = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    near = did_you_mean(Path(name).name, beside)
    return f"{key}: no file {name!r} below {root}", near + _SKIP


def _modules_below(root: Path) -> list[str]:
    """Modules one and two levels below the root, for suggestions."""
    files = [*root.glob("*.py"), *root.glob("*/*.py")][:1000]
    return [".".join(file.relative_to(root).with_suffix("").parts) for file in files]
