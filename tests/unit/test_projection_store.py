"""The file: all of a commit or nothing, values that no column holds, old heartbeats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dtf.core.errors import Unavailable, UserError
from dtf.projections.database import open_database
from dtf.projections.ledger import Delta, LiveChange
from dtf.projections.store import KEEP_BEATS_US, TRIM_EVERY_US, Commit, Place, Saved, Store

EMPTY = Delta({}, {})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "main.duckdb", "main")
    opened.prepare()
    yield opened
    opened.close()


def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with store.reading() as cursor:
        return cursor.execute(sql).fetchall()


def forgotten(*names: str) -> Delta:
    return Delta({"forgotten": [(name, 1, 1) for name in names]}, {})


def test_rows_position_and_snapshot_come_together(store: Store) -> None:
    place = Place("u", 7, "digest", 1, "origin")
    store.commit(Commit(forgotten("a"), place, Saved(7, b"fold", b"records")))
    assert store.place() == place
    assert store.saved() == Saved(7, b"fold", b"records")
    assert rows(store, "SELECT run FROM fact.forgotten") == [("a",)]
    store.commit(Commit(forgotten("b"), place._replace(sequence=9)))
    assert store.saved() == Saved(7, b"fold", b"records")


def test_a_commit_that_fails_leaves_nothing(store: Store) -> None:
    store.commit(Commit(forgotten("a"), Place("u", 1)))
    bad = Delta({"forgotten": [("b", 1, 1)], "tasks": [(1, 2)]}, {})  # too few columns: a bug
    with pytest.raises(Exception, match="column"):
        store.commit(Commit(bad, Place("u", 2)))
    assert store.place().sequence == 1
    assert rows(store, "SELECT run FROM fact.forgotten") == [("a",)]
    store.commit(Commit(forgotten("c"), Place("u", 3)))
    assert rows(store, "SELECT run FROM fact.forgotten ORDER BY run") == [("a",), ("c",)]


def test_a_value_no_column_holds_becomes_unknown_and_nothing_else_is_lost(store: Store) -> None:
    leaders = [(n, "c", "n", 1, n, 1) for n in range(1500)]
    leaders[700] = (2**80, "bad \ud800 text", "n", 1, 700, 1)
    store.commit(Commit(Delta({"leaders": leaders}, {}), Place("u", 1)))
    assert rows(store, "SELECT count(*), count(term) FROM fact.leaders") == [(1500, 1499)]
    assert rows(store, "SELECT coordinator FROM fact.leaders WHERE term IS NULL") == [
        ("bad ? text",)
    ]


def test_live_rows_are_replaced_by_their_keys(store: Store) -> None:
    def task(group: int, index: int, state: str) -> tuple[Any, ...]:
        return (group, index, state, 1, 0, 0, 0, 1, 1)

    first = LiveChange([], [task(1, 0, "running"), task(1, 1, "running"), task(2, 0, "running")])
    store.commit(Commit(Delta({}, {"tasks": first}), Place("u", 1)))
    second = LiveChange([(1, 0), (2, 0)], [task(1, 0, "waiting")])
    store.commit(Commit(Delta({}, {"tasks": second}), Place("u", 2)))
    assert rows(store, "SELECT group_pos, task_index, state FROM live.tasks ORDER BY 1, 2") == [
        (1, 0, "waiting"),
        (1, 1, "running"),
    ]


def test_heartbeats_of_more_than_a_day_ago_are_dropped(store: Store) -> None:
    def beat(us: int) -> tuple[Any, ...]:
        return ("worker", "w", "i", 1, 0, 0, None, None, None, None, None, 1, 0, us)

    store.commit(Commit(EMPTY, Place(), beats=[beat(1000)], telemetry=1))
    late = 1000 + KEEP_BEATS_US + TRIM_EVERY_US + 1
    store.commit(Commit(EMPTY, Place(), beats=[beat(late)], telemetry=2))
    assert rows(store, "SELECT at_us FROM keep.heartbeats") == [(late,)]
    assert store.telemetry() == 2


def test_nobody_reads_a_file_that_is_closed(store: Store) -> None:
    store.close()
    with pytest.raises(Unavailable, match="being closed"):
        rows(store, "SELECT 1")


@pytest.mark.parametrize("name", ["fact", "live", "keep", "FACT"])
def test_a_file_named_like_a_schema_is_refused(name: str, tmp_path: Path) -> None:
    """DuckDB could not tell fact.tasks of the schema from fact.tasks of the file."""
    with pytest.raises(UserError, match="cannot be called"):
        open_database(tmp_path / f"{name}.duckdb")


def test_any_other_name_of_a_file_works(tmp_path: Path) -> None:
    for name in ("tasks", "main", "my file", "history-1.2", "select"):
        store = Store(tmp_path / f"{name}.duckdb", "main")
        store.prepare()
        assert rows(store, "SELECT count(*) FROM tasks") == [(0,)]
        assert rows(store, "SELECT count(*) FROM fact.tasks") == [(0,)]
        store.close()
