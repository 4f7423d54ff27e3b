"""Fixtures of the acceptance tests: real processes, each in a place of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.cli_process import Place
from acceptance.pytest_pair import Pair
from suites.local_pool import local_pool


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An empty project; nothing that was started in it outlives the test."""
    found = Place(tmp_path)
    yield found
    found.nothing_runs()


@pytest.fixture(scope="module")
def warm_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A pool of two workers that all tests of a module share."""
    with local_pool(tmp_path_factory.mktemp("pool")) as variables:
        yield variables


@pytest.fixture
def pair(tmp_path: Path, warm_pool: dict[str, str]) -> Pair:
    """Plain pytest and `pytest --dtf` in a directory of their own, on the module's pool."""
    return Pair(tmp_path, warm_pool)
