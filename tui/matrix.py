"""The matrix of a run: tests against hardware. Rule: a cell shows what people must see first.

Pure: what was seen of the tasks goes in, rows and columns of text come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from msgspec import Struct

from ..core.placeholders import shown_value
from .formats import duration
from .glyphs import WORST_FIRST, look, mark, worst

ROWS_MAX = 40
COLUMNS_MAX = 8
COLUMN_NAMES = ("hardware", "backend", "provider", "runtime", "engine", "device")
"""Parameters that make the columns when tasks have them, before any other axis."""
_UNITS_US = {"s": 1e6, "ms": 1e3, "us": 1.0, "µs": 1.0, "ns": 1e-3}


class Seen(NamedTuple):
    """What the matrix needs to know of a task; `state` is its verdict, or running or queued."""

    label: str
    params: Mapping[str, Any]
    hardware: str
    state: str
    latency_us: float | None = None
    times: int = 1
    """How many tasks alike it stands for."""


class Cell(Struct):
    """The tasks of one row and column."""

    counts: dict[str, int] = {}
    latencies: list[float] = []

    def add(self, seen: Seen) -> None:
        self.counts[seen.state] = self.counts.get(seen.state, 0) + seen.times
        if seen.latency_us is not None:
            self.latencies.append(seen.latency_us)

    @property
    def state(self) -> str:
        """The state people must see."""
        return worst(self.counts) or ""

    @property
    def p50(self) -> float | None:
        """Median of the latencies in microseconds; None when none was measured."""
        return median(self.latencies) if self.latencies else None


class Matrix(Struct):
    """Rows of cells. `heads` are the titles of the row's own columns, `columns` those of cells."""

    heads: list[str]
    columns: list[str]
    rows: list[tuple[tuple[str, ...], list[Cell | None]]]
    left_out: int = 0
    """Rows not shown, all of them without anything but passed and skipped."""

    @property
    def states(self) -> list[str]:
        """Every state that occurs, worst first."""
        found = {s for _, cells in self.rows for cell in cells if cell for s in cell.counts}
        return [s for s in WORST_FIRST if s in found] + sorted(found - set(WORST_FIRST))

    @property
    def timed(self) -> bool:
        """Whether some cell shows a latency."""
        return any(cell.latencies for _, cells in self.rows for cell in cells if cell)


def latency_us(
    measurements: Iterable[tuple[str, float, str, Sequence[float] | None]],
) -> float | None:
    """The p50 latency among a task's measurements (name, value, unit, samples); None without one.

    A measurement counts when its name speaks of latency and its unit is a time: the median of its
    samples, else the value of the one named p50, else the value of one that names no percentile.
    """
    best: tuple[int, float] | None = None
    for name, value, unit, samples in measurements:
        words = set(name.lower().replace("_", ".").replace("-", ".").split("."))
        scale = _UNITS_US.get(unit)
        if scale is None or "latency" not in words:
            continue
        if words & {"p90", "p95", "p99", "max", "min", "first", "cold"}:
            continue
        rank = 0 if samples else 1 if words & {"p50", "median"} else 2
        if best is None or rank < best[0]:
            best = (rank, (median(samples) if samples else value) * scale)
    return best[1] if best else None


def build_matrices(tasks: Iterable[Seen], *, rows_max: int = ROWS_MAX) -> list[Matrix]:
    """A matrix for each set of parameters that tasks have, in order of appearance."""
    alike: dict[frozenset[str], list[Seen]] = {}
    for task in tasks:
        alike.setdefault(frozenset(task.params), []).append(task)
    return [build_matrix(group, rows_max=rows_max) for group in alike.values()]


def build_matrix(tasks: Iterable[Seen], *, rows_max: int = ROWS_MAX) -> Matrix:
    """The matrix of these tasks: rows in order of appearance, columns by hardware or an axis.

    Too many rows fold: first the parameters go, then rows in which all is well are left out.
    """
    seen = list(tasks)
    names = _varying(seen)
    column = _column_name(seen, names)
    rest = [name for name in names if name != column and name != "hardware"]
    while True:
        matrix = _fill(seen, rest, column)
        if len(matrix.rows) <= rows_max or not rest:
            break
        rest = rest[:-1]
    if len(matrix.rows) > rows_max:
        _leave_out(matrix, rows_max)
    return matrix


def _varying(seen: Sequence[Seen]) -> list[str]:
    """Parameters with more than one value, in order of appearance."""
    values: dict[str, set[str]] = {}
    for task in seen:
        for name, value in task.params.items():
            values.setdefault(name, set()).add(shown_value(value))
    return [
        name
        for name, found in values.items()
        if len(found) > 1 or any(name not in task.params for task in seen)
    ]


def _column_name(seen: Sequence[Seen], names: Sequence[str]) -> str | None:
    """What the columns are: "hardware", a parameter's name, or None for a single column."""
    if len({task.hardware for task in seen}) > 1:
        return "hardware"
    for name in (*COLUMN_NAMES, *names[1:2]):
        if name in names and len(_values(seen, name)) <= COLUMNS_MAX:
            return name
    return None


def _values(seen: Sequence[Seen], name: str | None) -> list[str]:
    return list(dict.fromkeys(_column_of(task, name) for task in seen))


def _column_of(task: Seen, name: str | None) -> str:
    if name is None:
        return "result"
    if name == "hardware":
        return task.hardware
    return shown_value(task.params[name]) if name in task.params else "-"


def _fill(seen: Sequence[Seen], rest: Sequence[str], column: str | None) -> Matrix:
    columns = _values(seen, column)
    place = {name: position for position, name in enumerate(columns)}
    rows: dict[tuple[str, ...], list[Cell | None]] = {}
    for task in seen:
        params = (shown_value(task.params[n]) if n in task.params else "" for n in rest)
        cells = rows.setdefault((task.label, *params), [None] * len(columns))
        position = place[_column_of(task, column)]
        cell = cells[position]
        if cell is None:
            cell = cells[position] = Cell()
        cell.add(task)
    return Matrix(heads=["test", *rest], columns=columns, rows=list(rows.items()))


def _leave_out(matrix: Matrix, rows_max: int) -> None:
    """Rows with trouble stay, in order; of the others as many as there is room for."""
    trouble = [row for row in matrix.rows if not _is_well(row[1])]
    room = max(0, rows_max - len(trouble))
    well = [row for row in matrix.rows if _is_well(row[1])]
    kept = {row[0] for row in trouble[:rows_max]} | {row[0] for row in well[:room]}
    matrix.left_out = len(matrix.rows) - len(kept)
    matrix.rows = [row for row in matrix.rows if row[0] in kept]


def _is_well(cells: Sequence[Cell | None]) -> bool:
    return all(set(cell.counts) <= {"passed", "skipped"} for cell in cells if cell)


def cell_text(cell: Cell | None, *, plain: bool = False, short: bool = False) -> str:
    """What one cell says: a mark with the p50 latency or the word, or counts by mark."""
    if cell is None:
        return "." if plain else "·"
    if sum(cell.counts.values()) > 1:
        order = sorted(cell.counts, key=_order)
        return " ".join(f"{mark(s, ascii_only=plain)} {cell.counts[s]:,}" for s in order)
    sign = mark(cell.state, ascii_only=plain)
    if cell.p50 is not None and cell.state == "passed":
        return f"{sign} {duration(cell.p50, ascii_only=plain)}"
    return sign if short or cell.state == "passed" else f"{sign} {look(cell.state).word}"


def _order(state: str) -> int:
    """Passed first, then by what must be seen."""
    if state == "passed":
        return -1
    return WORST_FIRST.index(state) if state in WORST_FIRST else len(WORST_FIRST)
