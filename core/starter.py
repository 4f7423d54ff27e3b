"""The files of a new project. Rule: they run as they are, and each line teaches something."""

from __future__ import annotations

from pathlib import Path

DTF_TOML = """\
# Settings of this project; `dtf config show --origin` tells all of them and where each comes from.
# Without a server, `dtf run` starts a pool on this machine and keeps its history in .dtf/
#
# server = "nats://host:4222"
# publisher = "ci"
"""

SUITE_TOML = """\
# Run it with: dtf run suite.toml        What it would do, and where: dtf plan suite.toml
name = "example"

[defaults]
wall = "1m"               # most time of one attempt

[[task]]
name = "hello"
command = ["echo", "any program is a test: exit status 0 means passed"]

[[task]]
name = "sort"
python = "checks:sort"    # a function in checks.py, run once for each combination below
[task.matrix]
size = [1_000, 100_000]
order = ["random", "sorted"]
"""

CHECKS_PY = '''\
"""Tests are plain functions: an exception is a failure, anything else a pass."""

import random
import time

import dtf


def sort(size: int, order: str) -> None:
    numbers = [random.random() for _ in range(size)]
    if order == "sorted":
        numbers.sort()
    samples = []
    for _ in range(5):
        start = time.perf_counter()
        result = sorted(numbers)
        samples.append((time.perf_counter() - start) * 1e3)
    assert all(a <= b for a, b in zip(result, result[1:]))
    dtf.measure("latency", sorted(samples)[2], "ms", samples=samples)
'''

FILES = {"dtf.toml": DTF_TOML, "suite.toml": SUITE_TOML, "checks.py": CHECKS_PY}
"""Name -> content, as `dtf init` writes them."""


def write_files(directory: Path) -> None:
    """The files are in `directory`. Raises `FileExistsError` rather than overwrite one."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        with (directory / name).open("x", encoding="utf-8") as file:
            file.write(text)
