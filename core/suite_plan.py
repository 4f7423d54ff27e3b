"""A suite as it was understood.

Rule: complete and checked; nothing here depends on the file any more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from .matrix import Matrix
from .model import TaskSpec


class BundlePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The working tree a suite ships."""

    root: Path
    exclude: list[str] = []
    """Patterns as in .gitignore, beyond those files."""
    limit: int | None = None
    """Most bytes; None: as configured."""


class TaskPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[task]]`: a task, or an array of them by one of `count`, `params`, `matrix`."""

    label: str
    """Its name in the file."""
    spec: TaskSpec
    """`require.hardware` is the class where the array does not say it."""
    classes: list[str] = []
    """Every hardware class its tasks need, in order."""
    count: int | None = None
    params: list[dict[str, Any]] | None = None
    matrix: Matrix | None = None
    pytest: list[str] | None = None
    """Words of a pytest command line; `params` are then its files."""
    check: bool = True
    """Its files and callables must exist where the suite is read."""


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite file says to run."""

    name: str
    path: Path
    tasks: list[TaskPlan]
    bundle: BundlePlan | None = None
    """None: nothing is shipped, workers have the code."""
    priority: int = 0
    labels: dict[str, str] = {}
    wait_for_capacity: bool = False
