"""Writes operators.toml and cases.toml from the installed onnx: `python ops_suites.py`.

Rule: a suite names what it runs, so the lists are written out; arrays of any length are one event.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import onnx
import ops_cases

HERE = Path(__file__).parent
SUITE = """\
# {title}
# Made by ops_suites.py from onnx {version}.
name = "{name}"

[[task]]
name = "{task}"
python = "ops:run_{task}"
isolation = "none" # trusted code inside the worker: no process a task, and no limit either
cpus = 1

[task.matrix]
backend = ["onnxruntime"]
{task} = [
{values}
]
"""


def suite_text(name: str, title: str, task: str, values: Iterable[str]) -> str:
    """A suite whose only task runs once with each of the values."""
    lines = "\n".join(f"  {json.dumps(value)}," for value in values)
    version = onnx.__version__
    return SUITE.format(title=title, version=version, name=name, task=task, values=lines)


def operators_text() -> str:
    """operators.toml: one task for each operator."""
    title = "One task for each operator: a matrix people can read."
    return suite_text("onnx-operators", title, "operator", ops_cases.operators())


def cases_text() -> str:
    """cases.toml: one task for each node test. Generates them all, about 8 s."""
    title = "One task for each node test: thousands of short tasks."
    names = (f"{case.operator}/{case.name}" for case in ops_cases.all_cases())
    return suite_text("onnx-cases", title, "case", names)


if __name__ == "__main__":
    (HERE / "operators.toml").write_text(operators_text(), encoding="utf-8")
    (HERE / "cases.toml").write_text(cases_text(), encoding="utf-8")
