"""Whether the code under test is still what a warm process has imported.

Rule: a changed file is never missed for being cheap: names, sizes and times of everything that
Python or pytest may have read are part of the answer.
"""

from __future__ import annotations

import hashlib
import os
import site
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

SUFFIXES = (".py", ".so", ".pyd", ".toml", ".ini", ".cfg", ".txt", ".rst", ".md", ".yaml", ".yml")
"""What is imported, configures pytest, or may be collected."""
LEFT_OUT = frozenset({"__pycache__", "node_modules"})
FILES_MAX = 200_000
"""A tree with more files counts as changed each time."""


def code_state(roots: Iterable[Path]) -> str:
    """A digest over every such file below `roots`, and of the interpreter's packages.

    Hidden directories and virtual environments are left out; links to directories are followed
    once. About 5 us a file; blocks.
    """
    told = hashlib.sha256()
    seen: set[tuple[int, int]] = set()
    count = 0
    for root in roots:
        for name, size, stamp in _files(str(root), seen):
            count += 1
            if count > FILES_MAX:
                return os.urandom(8).hex()
            told.update(f"{name}\0{size}\0{stamp}\n".encode("utf-8", "surrogateescape"))
    for folder in _packages():
        try:
            told.update(f"{folder}\0{os.stat(folder).st_mtime_ns}\n".encode())
        except OSError:
            continue
    return told.hexdigest()[:16]


def code_roots(rootdir: Path) -> list[Path]:
    """The tree under test, and what else `sys.path` has that is neither the interpreter's own nor
    its installed packages: working trees that are installed in place.
    """
    installed: list[str] = [*_packages(), sys.prefix + "/lib", sys.base_prefix + "/lib"]
    found: list[Path] = [rootdir]
    for entry in sys.path:
        path = Path(entry or ".").absolute()
        if not path.is_dir() or any(
            path.is_relative_to(each) for each in [*installed, *map(str, found)]
        ):
            continue
        found.append(path)
    return found


def _packages() -> list[str]:
    return [*site.getsitepackages(), site.getusersitepackages()]


def _files(folder: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, int, int]]:
    """(path, bytes, time of change) of every file that counts below the folder."""
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    if any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        try:
            if entry.is_dir():
                if entry.name[:1] != "." and entry.name not in LEFT_OUT:
                    yield from _files(entry.path, seen)
            elif entry.name.endswith(SUFFIXES):
                about = entry.stat()
                yield entry.path, about.st_size, about.st_mtime_ns
        except OSError:
            continue
