"""Fixtures of the acceptance tests: real processes, each in a place of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.cli_process import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An empty project; nothing that was started in it outlives the test."""
    found = Place(tmp_path)
    yield found
    found.nothing_runs()
