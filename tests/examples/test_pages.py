"""The pages of the examples name what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import EXAMPLES

PAGES = sorted(page for page in EXAMPLES.rglob("*.md") if "node_modules" not in page.parts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(EXAMPLES)))
def test_links_and_suites_exist(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link
    for suite in re.findall(r"\bexamples/[\w./-]+", text):
        assert (EXAMPLES.parent / suite.rstrip(".")).exists(), suite
