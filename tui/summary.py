"""The end of a run for people and programs. Rule: the matrix, why it failed, how it ended.

People get the matrix, the last lines of failures and one line of counts; programs get a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core.exit_codes import ExitCode, code_for_counts
from ..core.listing import Column, Field, Listing, Record
from .console import ascii_only
from .fitting import GAP, fit
from .formats import duration, plural, short_run
from .glyphs import WORST_FIRST, look, mark
from .matrix import Cell, Matrix, build_matrices, cell_text
from .outcome import Failure, Outcome

FAILURES_SHOWN = 10
TAIL_LINES = 8


def exit_code(outcome: Outcome) -> ExitCode:
    """The exit code of a run that is over (or was left)."""
    if outcome.verdict == "rejected":
        return ExitCode.USAGE
    return code_for_counts(outcome.counts, outcome.size)


def show_summary(console: Console, outcome: Outcome) -> None:
    """Matrix, failures and the line of counts are on the console."""
    plain = ascii_only(console)
    matrices = build_matrices(outcome.seen)
    for matrix in matrices:
        console.print(matrix_table(matrix, console.width, plain=plain))
        console.print()
    if matrices:
        console.print(legend(matrices, plain=plain), soft_wrap=True)
    if outcome.failures:
        console.print()
        for line in failure_lines(outcome, plain=plain):
            console.print(line, soft_wrap=True)
    console.print()
    console.print(result_line(outcome, plain=plain), soft_wrap=True)


def matrix_table(matrix: Matrix, width: int, *, plain: bool) -> Table:
    """The matrix as a table that fits `width` where it can: words in cells give way first."""
    for short in (False, True):
        lines = [_cells(names, row, plain, short=short) for names, row in matrix.rows]
        widths = [len(head) for head in (*matrix.heads, *matrix.columns)]
        for line in lines:
            widths = [max(known, text.cell_len) for known, text in zip(widths, line, strict=True)]
        if sum(widths) + GAP * len(widths) <= width:
            break
    flexible = [True] * len(matrix.heads) + [False] * len(matrix.columns)
    table = Table(
        box=box.ASCII2 if plain else box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
        header_style="bold",
    )
    fitted = fit(widths, flexible, width)
    for head, room in zip((*matrix.heads, *matrix.columns), fitted, strict=True):
        table.add_column(head, no_wrap=True, overflow="ellipsis", width=room)
    for line in lines:
        table.add_row(*line)
    return table


def _cells(
    names: Sequence[str], row: Sequence[Cell | None], plain: bool, *, short: bool
) -> list[Text]:
    """One line of the matrix."""
    shown = [
        Text(
            cell_text(cell, plain=plain, short=short),
            style=look(cell.state).style if cell else "dim",
        )
        for cell in row
    ]
    return [*(Text(name) for name in names), *shown]


def legend(matrices: Sequence[Matrix], *, plain: bool) -> Text:
    """What the marks of these matrices mean."""
    states = sorted({state for matrix in matrices for state in matrix.states}, key=_order)
    parts = [f"{mark(state, ascii_only=plain)} {look(state).word}" for state in states]
    if any(matrix.timed for matrix in matrices):
        parts.append("time: p50 latency")
    left_out = sum(matrix.left_out for matrix in matrices)
    if left_out:
        parts.append(f"{plural(left_out, 'row')} more, all passed or skipped")
    return Text("  ".join(parts), style="dim")


def _order(state: str) -> int:
    """Passed first, then the worst."""
    if state == "passed":
        return -1
    return WORST_FIRST.index(state) if state in WORST_FIRST else len(WORST_FIRST)


def failure_lines(outcome: Outcome, *, plain: bool) -> Iterable[Text]:
    """Each of the first failures with its message and the last lines of its output."""
    for failure in outcome.failures[:FAILURES_SHOWN]:
        yield _failure_head(outcome, failure, plain)
        for line in _story(failure):
            yield Text(f"    {line}", style="dim")
    more = len(outcome.failures) - FAILURES_SHOWN
    if more > 0:
        more = max(more, outcome.failed - FAILURES_SHOWN)
        yield Text(f"and {more:,} more", style="dim")


def _failure_head(outcome: Outcome, failure: Failure, plain: bool) -> Text:
    seen = look(failure.verdict)
    facts = [f"{short_run(outcome.run)}/{failure.task}"]
    if failure.worker:
        facts.append(f"on {failure.worker}")
    if failure.attempts and failure.attempts > 1:
        facts.append(f"attempt {failure.attempts}")
    if failure.cause and failure.cause not in ("done", "test", failure.verdict):
        facts.append(failure.cause.replace("_", " "))
    return Text.assemble(
        (f"{mark(failure.verdict, ascii_only=plain)} {seen.word}", seen.style),
        "  ",
        (failure.label, "bold"),
        ("  " + "  ".join(facts), "dim"),
    )


def _story(failure: Failure) -> Sequence[str]:
    """The message and the last lines of the output, neither said twice."""
    tail = [line.rstrip() for line in failure.tail.splitlines() if line.strip()][-TAIL_LINES:]
    message = [line for line in failure.message.splitlines() if line.strip()][:TAIL_LINES]
    if message == [failure.verdict]:
        message = []
    if message and message[0].strip() in (line.strip() for line in tail):
        message = []
    return [*message, *tail]


def result_line(outcome: Outcome, *, plain: bool) -> Text:
    """How the run ended, in one line."""
    name = outcome.verdict or outcome.state
    if name == "failed" and exit_code(outcome) is ExitCode.INCOMPLETE:
        name = "incomplete"  # the log knows one word for both; people and CI need to tell them
    seen = look(name)
    line = Text.assemble((f"{mark(name, ascii_only=plain)} {seen.word}", seen.style), "  ")
    order = ["passed", *(state for state in WORST_FIRST if state != "passed")]
    counts = [f"{outcome.counts[s]:,} {look(s).word}" for s in order if outcome.counts.get(s)]
    pending = outcome.size - sum(outcome.counts.values())
    if pending > 0:
        counts.append(f"{pending:,} not settled")
    line.append(f"{', '.join(counts) or 'no tasks'} of {plural(outcome.size, 'task')}")
    if outcome.wall_us is not None:
        line.append(f" in {duration(outcome.wall_us, ascii_only=plain)}")
    line.append(f"  run {short_run(outcome.run)}", style="dim")
    if outcome.reason:
        line.append(f"\n  {outcome.reason}")
    return line


def outcome_record(outcome: Outcome) -> Record:
    """The outcome for programs."""
    matrices = build_matrices(outcome.seen, rows_max=1_000_000)
    fields = [
        Field("run", outcome.run, "id"),
        Field("name", outcome.name),
        Field("state", outcome.state, "state"),
        Field("verdict", outcome.verdict, "verdict"),
        Field("reason", outcome.reason or None),
        Field("tasks", outcome.size, "count"),
        Field("counts", outcome.counts, "json"),
        Field("wall_us", outcome.wall_us, "duration_us", "wall time"),
        Field("retry_of", outcome.retry_of, "id"),
        Field("exit_code", int(exit_code(outcome))),
    ]
    return Record(
        kind="run",
        fields=fields,
        parts=[_matrix_listing(matrices), _failures_listing(outcome.failures)],
        exit_code=exit_code(outcome),
    )


def _matrix_listing(matrices: Sequence[Matrix]) -> Listing:
    rows = [
        [dict(zip(matrix.heads, names, strict=True)), column, cell.counts, cell.p50]
        for matrix in matrices
        for names, cells in matrix.rows
        for column, cell in zip(matrix.columns, cells, strict=True)
        if cell is not None
    ]
    columns = [Column(name="row", kind="json"), Column(name="column")]
    columns += [Column(name="counts", kind="json"), Column(name="latency_us", kind="duration_us")]
    return Listing(kind="matrix", columns=columns, rows=rows)


def _failures_listing(failures: Sequence[Failure]) -> Listing:
    columns = [Column(name=name) for name in Failure._fields]
    return Listing(kind="failures", columns=columns, rows=failures)
