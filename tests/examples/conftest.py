"""The examples as importable modules, and an ear for what a task reports."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dtf.core import report

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXTRAS = "make demo, or pip install -r examples/requirements.txt and --no-deps -r ...-nodeps.txt"


class Heard:
    """What a task has reported so far."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [line[kind] for line in self.lines if kind in line]

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdict by case; onnx-ops' ids lose their operator."""
        return {case["id"].rpartition("/")[2]: case["verdict"] for case in self.of("case")}

    @property
    def values(self) -> dict[str, float]:
        return {one["name"]: one["value"] for one in self.of("measurement")}

    def message(self, name: str) -> str:
        (found,) = [case for case in self.of("case") if case["id"].endswith(name)]
        return str(found.get("message", ""))


@pytest.fixture
def heard() -> Iterator[Heard]:
    ear = Heard()
    token = report.sink.set(ear.lines.append)
    yield ear
    report.sink.reset(token)


def load(folder: str, module: str) -> ModuleType:
    """A module of an example; the test is skipped by name where a package is missing."""
    path = str(EXAMPLES / folder)
    if path not in sys.path:
        sys.path.insert(0, path)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed: {EXTRAS}")


@pytest.fixture(scope="session")
def ops() -> ModuleType:
    return load("onnx-ops", "ops")


@pytest.fixture(scope="session")
def zoo() -> ModuleType:
    return load("tiny-zoo", "zoo")
