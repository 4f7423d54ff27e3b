"""Suites that tests of `pytest --dtf` write into a directory of their own.

Rule: each is a mapping of file names to sources; none of them is collected by our own test run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Files = Mapping[str, str]


def write(where: Path, files: Files) -> None:
    """The files lie below `where`."""
    for name, text in files.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def passing(number: int, name: str = "fine") -> str:
    """A module of `number` tests that pass."""
    return "\n".join(f"def test_{name}_{n}():\n    pass\n" for n in range(number))
