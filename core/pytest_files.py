"""Which files the words of a pytest command line name. Rule: names only; nothing is imported, and
pytest itself, on the worker, has the last word about what is in them.
"""

from __future__ import annotations

import configparser
import os
import tomllib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

FILES = ("test_*.py", "*_test.py")
SKIPPED = ("*.egg", ".*", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}")


class FoundFiles(NamedTuple):
    """`files`: path below the root -> node ids asked for in it (none: all). `args`: the rest."""

    files: dict[str, list[str]]
    args: list[str]
    missing: list[str]
    """Words that can only be meant as files, and are not there."""


def find_test_files(root: Path, words: Sequence[str]) -> FoundFiles:
    """What `pytest WORDS` would look into, called in `root`; without a path, in `testpaths` or
    everywhere.
    """
    settings = _settings(root)
    found = FoundFiles({}, [], [])
    paths = []
    for word in words:
        path, _, node = word.partition("::")
        if not word.startswith("-") and (root / path).exists() and path:
            paths.append((path, node))
        elif not word.startswith("-") and (path.endswith(".py") or node):
            found.missing.append(word)
        else:
            found.args.append(word)
    if not paths and not found.missing:
        named = _patterns(settings.get("testpaths"), ())
        paths = [(str(each.relative_to(root)), "") for name in named for each in root.glob(name)]
        paths = paths or [(".", "")]
    for path, node in paths:
        for file in _files_in(root, path, settings):
            ids = found.files.setdefault(file, [])
            if node:
                ids.append(f"{file}::{node}")
    return found


def _files_in(root: Path, path: str, settings: dict[str, Any]) -> Iterator[str]:
    start = root / path
    if start.is_file():
        yield Path(os.path.normpath(path)).as_posix()
        return
    files = _patterns(settings.get("python_files"), FILES)
    skipped = _patterns(settings.get("norecursedirs"), SKIPPED)
    for folder, folders, names in os.walk(start):
        folders[:] = sorted(
            name
            for name in folders
            if name != "__pycache__"
            and not any(fnmatch(name, pattern) for pattern in skipped)
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        )
        for name in sorted(names):
            if any(fnmatch(name, pattern) for pattern in files):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _settings(root: Path) -> dict[str, Any]:
    """pytest's settings of the root, as its own search finds them; {} without or if unreadable."""
    try:
        for name in ("pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg"):
            if (root / name).is_file():
                parser = configparser.ConfigParser(interpolation=None)
                parser.read(root / name, encoding="utf-8")
                section = "tool:pytest" if name == "setup.cfg" else "pytest"
                if parser.has_section(section):
                    return dict(parser[section])
        if (root / "pyproject.toml").is_file():
            tool = tomllib.loads((root / "pyproject.toml").read_text("utf-8")).get("tool", {})
            ours = tool.get("pytest", {})
            return dict(ours.get("ini_options", ours))
    except (OSError, ValueError, configparser.Error, AttributeError):
        return {}
    return {}


def _patterns(value: object, default: Sequence[str]) -> list[str]:
    """A setting that lists words, in TOML or INI."""
    if isinstance(value, str):
        return value.split() or list(default)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    return list(default)
