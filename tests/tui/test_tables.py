"""Listings and records, for people and for programs."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest
from dtf.core.listing import Column, Field, Listing, Record
from dtf.tui.machine import listing_text, record_text
from dtf.tui.tables import show_listing, show_record
from screens import console, shown

NOW = 1_000_000_000_000_000_000
LISTING = Listing(
    kind="runs",
    columns=[
        Column(name="run", kind="id"),
        Column(name="name", flexible=True),
        Column(name="state", kind="state"),
        Column(name="tasks", kind="count"),
        Column(name="wall_us", title="took", kind="duration_us"),
        Column(name="submitted_ns", title="submitted", kind="time_ns"),
        Column(name="labels", kind="json", wide=True),
    ],
    rows=[
        ["abcdefghijklmnopqrstuvwxyz", "tiny-zoo", "passed", 20000, 1.5e6, NOW - 10**9, {"a": 1}],
        ["bcdefghijklmnopqrstuvwxyza", "a" * 60, "no_capacity", 3, None, None, None],
    ],
)


def test_a_wide_terminal_shows_every_column() -> None:
    screen = console(140)
    show_listing(screen, LISTING, now_ns=NOW)
    head, first, second = shown(screen).splitlines()
    assert head.split() == ["run", "name", "state", "tasks", "took", "submitted", "labels"]
    assert " ".join(first.split()) == "abcdefghij tiny-zoo ✔ passed 20,000 1.50 s 1 s ago a=1"
    assert second.split()[-3:] == ["-", "-", "-"]


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_shortens_names_not_facts(width: int) -> None:
    screen = console(width)
    show_listing(screen, LISTING, now_ns=NOW)
    text = shown(screen)
    assert all(len(line) <= width for line in text.splitlines())
    assert "labels" not in text
    assert "a…" in text
    for fact in ("abcdefghij", "✔ passed", "20,000", "⚠ no capac"):
        assert fact in text


def test_a_pipe_gets_whole_rows() -> None:
    screen = console(10_000)
    show_listing(screen, LISTING, now_ns=NOW)
    assert "a" * 60 in shown(screen)


def test_json_names_its_schema_and_keeps_values() -> None:
    told = msgspec.json.decode(listing_text(LISTING, "json"))
    assert told["schema"] == "dtf.runs/1"
    assert told["rows"][0]["run"] == "abcdefghijklmnopqrstuvwxyz"
    assert told["rows"][0]["labels"] == {"a": 1}
    assert told["rows"][1]["wall_us"] is None


def test_json_lines_are_objects_with_the_schema() -> None:
    lines = [msgspec.json.decode(line) for line in listing_text(LISTING, "jsonl").splitlines()]
    assert [line["schema"] for line in lines] == ["dtf.runs/1"] * 2
    assert lines[1]["tasks"] == 3


def test_csv_can_be_read_back() -> None:
    rows = list(csv.DictReader(io.StringIO(listing_text(LISTING, "csv"))))
    assert rows[0]["labels"] == '{"a":1}'
    assert rows[1]["wall_us"] == ""


def test_markdown_cells_never_break_the_table() -> None:
    listing = Listing(kind="x", columns=[Column(name="a")], rows=[["1|2\n3"]])
    assert listing_text(listing, "md") == "| a |\n| --- |\n| 1\\|2 3 |\n"


RECORD = Record(
    kind="task",
    title="parity-3",
    fields=[Field("state", "failed", "state"), Field("duration_us", 1234, "duration_us", "took")],
    parts=[
        Listing(kind="attempts", columns=[Column(name="attempt", kind="count")], rows=[[1]]),
        Listing(kind="cases", columns=[Column(name="case")], rows=[], empty="none"),
    ],
    text="last words",
)


def test_a_record_shows_fields_parts_and_text() -> None:
    screen = console()
    show_record(screen, RECORD, now_ns=NOW)
    assert shown(screen) == (
        "parity-3\nstate  ✘ failed\ntook   1.23 ms\n\nattempts\nattempt\n      1\n\n"
        "cases: none\n\nlast words"
    )


def test_a_record_as_json_has_a_list_for_each_part() -> None:
    told = msgspec.json.decode(record_text(RECORD, "json"))
    assert told == {
        "schema": "dtf.task/1",
        "state": "failed",
        "duration_us": 1234,
        "attempts": [{"attempt": 1}],
        "cases": [],
        "text": "last words",
    }
    assert "last words" in record_text(RECORD, "md")
