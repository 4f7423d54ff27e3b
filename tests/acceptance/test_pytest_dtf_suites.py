"""The suites of small packages give the same outcome for every case; all: `make suites`."""

from __future__ import annotations

from pathlib import Path

import pytest
from suites import fetch
from suites.outcomes import differences, run_pytest
from suites.table import SUITES, Suite

KEPT = [suite for suite in SUITES if suite.kept]


@pytest.mark.parametrize("suite", KEPT, ids=lambda suite: suite.name)
def test_a_suite_of_another_package(
    suite: Suite, tmp_path: Path, warm_pool: dict[str, str]
) -> None:
    runs = []
    for more, env in (((), {}), (("--dtf",), warm_pool)):
        tree = fetch.fresh_tree(suite, tmp_path / "tree")
        variables = fetch.environment(suite, tree) | env
        words = (*suite.words, *more)
        runs.append(run_pytest(tree, words, variables, tmp_path / "out.xml"))
    assert runs[0].number == suite.cases, runs[0].out
    told = differences(*runs)
    assert not told, "\n".join([*told, runs[1].out])
