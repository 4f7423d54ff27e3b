"""Every suite of the examples is understood, and names what is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from dtf.core.suite import expand, load_suite

from .conftest import EXAMPLES

SUITES = sorted(EXAMPLES.rglob("*.toml"))


@pytest.mark.parametrize(
    "path",
    [path for path in SUITES if path.parent.name != "known"],
    ids=lambda path: str(path.relative_to(EXAMPLES)),
)
def test_a_suite_is_understood(path: Path) -> None:
    groups = expand(load_suite(path))
    assert sum(group.size for group in groups) > 0


def test_thousands_of_tasks_are_one_group() -> None:
    (group,) = expand(load_suite(EXAMPLES / "onnx-ops" / "cases.toml"))
    assert group.size > 1800
    assert group.axes is not None
