"""`pytest --dtf` says what pytest says: every outcome, id, fixture, conftest and doctest."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from acceptance.pytest_pair import Pair, lines
from pytest_suites import everyday, places


def test_every_outcome_with_its_reason(pair: Pair) -> None:
    plain, other = pair.same(everyday.OUTCOMES, "-rA", "-v")
    assert plain.totals["failed"] > 5
    for kind in ("SKIPPED", "XFAIL", "XPASS", "FAILED", "ERROR"):
        assert sorted(lines(other.out, kind)) == sorted(lines(plain.out, kind))
    assert "in the section of stdout" in other.out
    assert "Full diff" in plain.out
    assert re.findall(r"^E  .*", other.out, re.M) == re.findall(r"^E  .*", plain.out, re.M)


def test_warnings_are_summed_up_as_ever(pair: Pair) -> None:
    plain, other = pair.same(everyday.OUTCOMES, "-k", "warns")
    assert plain.totals["warning"] == 2
    assert "DeprecationWarning: deprecated word" in other.out
    assert "test_outcomes.py::test_warns" in other.out


def test_subtests_and_unittest_classes(pair: Pair) -> None:
    plain, other = pair.same(everyday.SUBTESTS, "-v")
    assert plain.totals["subtests passed"] > 5
    assert sorted(lines(other.out, "SUBFAILED")) == sorted(lines(plain.out, "SUBFAILED"))


def test_doctests_in_modules_and_text_files(pair: Pair) -> None:
    plain, other = pair.same(everyday.DOCTESTS)
    assert plain.totals["failed"] == 2
    assert "Expected:" in other.out
    assert "003 " in other.out


def test_ids_of_every_shape(pair: Pair) -> None:
    plain, other = pair.same(everyday.IDS, "-v", "-p", "no:cacheprovider")
    assert plain.number > 50
    wanted, said = (
        Counter(map(without_share, lines(run.out, "test_ids"))) for run in (plain, other)
    )
    assert said == wanted


def without_share(line: str) -> str:
    """The line without its [ 50%]."""
    return re.sub(r" +\[ *\d+%\]$", "", line)


def test_one_id_of_every_shape_can_be_asked_for(pair: Pair) -> None:
    for wanted in (
        "test_ids.py::test_signs[a::b]",
        "test_ids.py::test_signs[]",
        "test_ids.py::test_unicode[\\u65e5\\u672c]",
        "test_ids.py::TestGrid::test_grid[None-x-1]",
    ):
        plain, _ = pair.same(everyday.IDS, wanted)
        assert plain.number == 1, wanted


def test_conftests_plugins_and_ini_options(pair: Pair) -> None:
    plain, other = pair.same(places.PLACES, "--colour", "blue")
    assert plain.totals == {"failed": 2, "passed": 8, "skipped": 1}
    assert "a header of the suite" in other.out
    assert "sweet" not in other.out


@pytest.mark.parametrize(
    "options",
    [
        ("checks/deep",),
        ("checks/deep/check_deep.py::check_level",),
        ("-m", "slow"),
        ("-m", "not slow"),
    ],
    ids=" ".join,
)
def test_parts_of_a_tree(pair: Pair, options: tuple[str, ...]) -> None:
    plain, _ = pair.same(places.PLACES, "--colour=blue", *options)
    assert plain.number >= 1


def test_built_in_fixtures(pair: Pair) -> None:
    plain, _ = pair.same(places.BUILT_IN)
    assert plain.totals["failed"] == 1


@pytest.mark.parametrize("split", ["auto", "case", "file", "class", "module", "shard"])
def test_fixtures_of_every_scope_are_set_up_and_torn_down(pair: Pair, split: str) -> None:
    plain = pair.plain(places.SCOPES)
    usual = Counter((pair.directory / "fixtures.log").read_text().split())
    other = pair.dtf(places.SCOPES, f"--dtf-split={split}")
    assert other.cases == plain.cases, other.out
    notes = Counter((pair.directory / "fixtures.log").read_text().split())
    for scope in ("session", "package", "module", "class", "function"):
        assert notes[f"+{scope}"] == notes[f"-{scope}"], (scope, notes)
    assert notes["+function"] == usual["+function"] == plain.number
    if split in ("file", "module", "shard"):
        assert notes["+module"] == usual["+module"]
    if split not in ("auto", "case"):
        assert notes["+class"] == usual["+class"]
    assert 1 <= notes["+session"] <= 2, notes


@pytest.mark.parametrize("isolation", ["none", "shard", "file", "case"])
def test_isolation_changes_no_outcome(pair: Pair, isolation: str) -> None:
    plain, _ = pair.same(places.BUILT_IN, extra=[f"--dtf-isolation={isolation}"])
    assert plain.number > 15
