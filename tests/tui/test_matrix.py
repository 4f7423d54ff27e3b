"""The matrix: what makes the columns, what a cell shows, what goes when there is too much."""

from __future__ import annotations

import pytest
from dtf.tui.matrix import Cell, Seen, build_matrix, cell_text, latency_us


def seen(state: str = "passed", hardware: str = "cpu", label: str = "t", **params: object) -> Seen:
    return Seen(label, params, hardware, state)


def test_hardware_makes_the_columns_when_there_is_more_than_one() -> None:
    matrix = build_matrix([seen(hardware=h, model=m) for m in ("a", "b") for h in ("cpu", "cuda")])
    assert matrix.columns == ["cpu", "cuda"]
    assert matrix.heads == ["test", "model"]
    assert [names for names, _ in matrix.rows] == [("t", "a"), ("t", "b")]


def test_a_backend_makes_the_columns_on_one_kind_of_hardware() -> None:
    matrix = build_matrix(
        [seen(model=m, batch=b, backend=k) for m in "ab" for b in (1, 4) for k in ("ort", "ov")]
    )
    assert matrix.columns == ["ort", "ov"]
    assert matrix.heads == ["test", "model", "batch"]


def test_otherwise_the_second_axis_makes_the_columns() -> None:
    matrix = build_matrix([seen(model=m, batch=b) for m in "ab" for b in (1, 4)])
    assert matrix.columns == ["1", "4"]
    assert matrix.heads == ["test", "model"]


def test_without_parameters_there_is_one_column() -> None:
    matrix = build_matrix([seen(label="a"), seen("failed", label="b")])
    assert matrix.columns == ["result"]
    assert [names for names, _ in matrix.rows] == [("a",), ("b",)]


def test_a_parameter_with_one_value_is_no_column() -> None:
    matrix = build_matrix([seen(model=m, batch=b, fixed=1) for m in "ab" for b in (1, 4)])
    assert "fixed" not in matrix.heads


def test_many_tasks_fold_into_their_test() -> None:
    matrix = build_matrix([seen(case=n) for n in range(2000)] + [seen("failed", case=-1)])
    assert [names for names, _ in matrix.rows] == [("t",)]
    assert cell_text(matrix.rows[0][1][0]) == "✔ 2,000 ✘ 1"


def test_rows_with_trouble_stay_when_rows_are_left_out() -> None:
    tasks = [seen("failed" if n == 99 else "passed", label=f"t{n}") for n in range(100)]
    matrix = build_matrix(tasks, rows_max=10)
    assert len(matrix.rows) == 10
    assert matrix.rows[-1][0] == ("t99",)
    assert matrix.left_out == 90


def test_the_worst_state_speaks_for_a_cell() -> None:
    cell = Cell(counts={"passed": 3, "fallback": 1, "failed": 2})
    assert cell.state == "failed"
    assert cell_text(cell) == "✔ 3 ✘ 2 ⚠ 1"


@pytest.mark.parametrize(
    ("state", "text", "plain"),
    [
        ("passed", "✔", "P"),
        ("failed", "✘ failed", "F failed"),
        ("timed_out", "⧖ timed out", "T timed out"),
        ("no_capacity", "⚠ no capacity", "N no capacity"),
        ("running", "▶ running", "R running"),
        ("queued", "◌ queued", "Q queued"),
    ],
)
def test_a_cell_never_speaks_by_colour_alone(state: str, text: str, plain: str) -> None:
    cell = Cell(counts={state: 1})
    assert cell_text(cell) == text
    assert cell_text(cell, plain=True) == plain
    assert cell_text(cell, plain=True).isascii()


def test_a_passed_cell_shows_its_latency() -> None:
    assert cell_text(Cell(counts={"passed": 1}, latencies=[1234.0])) == "✔ 1.23 ms"
    assert cell_text(Cell(counts={"failed": 1}, latencies=[1234.0])) == "✘ failed"
    assert cell_text(None) == "·"


@pytest.mark.parametrize(
    ("measurements", "expected"),
    [
        ([], None),
        ([("accuracy", 0.9, "", None)], None),
        ([("latency", 2.0, "ms", None)], 2000.0),
        ([("latency", 2.0, "bananas", None)], None),
        ([("latency.p99", 9.0, "ms", None), ("latency.p50", 2.0, "ms", None)], 2000.0),
        ([("latency_p95", 9.0, "ms", None)], None),
        ([("latency", 7.0, "ms", [1.0, 2.0, 9.0]), ("latency.p50", 3.0, "ms", None)], 2000.0),
        ([("latency.first", 90.0, "ms", None)], None),
        ([("latency", 3e-5, "s", None)], pytest.approx(30.0)),
    ],
)
def test_latency_is_the_median_where_it_was_measured(
    measurements: list[tuple[str, float, str, list[float] | None]], expected: float | None
) -> None:
    assert latency_us(measurements) == expected
