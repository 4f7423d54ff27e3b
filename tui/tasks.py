"""Commands that look at tasks. Rule: they read views, and change nothing."""

from __future__ import annotations

from typing import Any

from ..core.listing import Column, Field, Listing, Record
from .history import History, open_history
from .next_step import command
from .past import known_state, plain_params
from .runs import Limit

TASKS = """
SELECT task, label, params, coalesce(verdict, state) AS state, cause, hardware, worker, attempts,
    duration_us, peak_rss_bytes, message
FROM tasks WHERE run = ?
"""
TASK_COLUMNS = (
    Column(name="task"),
    Column(name="state", kind="state"),
    Column(name="label", title="test", flexible=True),
    Column(name="params", kind="json", flexible=True),
    Column(name="hardware", wide=True),
    Column(name="worker", wide=True),
    Column(name="attempts", title="tries", kind="count", wide=True),
    Column(name="duration_us", title="took", kind="duration_us", wide=True),
    Column(name="peak_rss_bytes", title="memory", kind="bytes", wide=True),
    Column(name="cause", wide=True),
    Column(name="message", wide=True, flexible=True),
)


async def task_ls(run: str = "last", /, *, failed: bool = False, limit: Limit = 200) -> Listing:
    """List the tasks of a run that were at least assigned once.

    Parameters
    ----------
    run
        Run id, a unique beginning of one, or `last`.
    failed
        Only tasks that neither passed nor were skipped.
    limit
        Most tasks to list.
    """
    where = "AND verdict NOT IN ('passed', 'skipped') " if failed else ""
    async with open_history() as history:
        found = await history.run(run)
        rows = await history.rows(
            f"{TASKS} {where}ORDER BY group_pos, task_index LIMIT ?", found, limit + 1
        )
        queued = await history.rows("SELECT sum(queued) FROM groups WHERE run = ?", found)
    notes = [f"Only the first {limit}; more with --limit."] if len(rows) > limit else []
    if queued and queued[0][0] and not failed:
        notes.append(f"{int(queued[0][0]):,} more are queued.")
    for row in rows:
        row[2] = row[2] and plain_params(row[2])
    return Listing(
        kind="tasks",
        columns=TASK_COLUMNS,
        rows=[_reordered(row) for row in rows[:limit]],
        empty="No such tasks.",
        notes=notes,
    )


def _reordered(row: list[Any]) -> list[Any]:
    task, label, params, state, cause, hardware, worker, attempts, took, memory, message = row
    state = known_state(state)
    return [
        task, state, label, params, hardware, worker, attempts, took, memory, cause, message,
    ]  # fmt: skip


async def task_show(task: str, /) -> Record:
    """One task with its attempts, cases, measurements and artifacts.

    Parameters
    ----------
    task
        RUN/TASK; RUN may be a unique beginning or `last`.
    """
    async with open_history() as history:
        named = await history.task(task)
        rows = await history.rows(f"{TASKS} AND task = ?", *named)
        parts = [await _part(history, kind, sql, columns, named) for kind, sql, columns in _PARTS]
    if not rows:
        fields = [Field("run", named.run), Field("task", named.task)]
        return Record(kind="task", fields=[*fields, Field("state", "queued", "state")])
    row = dict(zip((c.name for c in TASK_COLUMNS), _reordered(rows[0]), strict=True))
    row["params"] = plain_params(row["params"])
    fields = [Field("run", named.run)]
    fields += [Field(c.name, row[c.name], c.kind, c.heading) for c in TASK_COLUMNS]
    next_line = f"next: {command('task', 'log', '/'.join((named.run[:10], named.task)))}"
    return Record(kind="task", fields=fields, parts=parts, notes=[next_line])


async def _part(
    history: History, kind: str, sql: str, columns: list[Column], named: tuple[str, str]
) -> Listing:
    return Listing(kind=kind, columns=columns, rows=await history.rows(sql, *named))


_PARTS: tuple[tuple[str, str, list[Column]], ...] = (
    (
        "attempts",
        """SELECT attempt, coalesce(verdict, state), cause, worker, exit_code, duration_us, cpu_us,
            peak_rss_bytes, requested, actual, output_bytes, coalesce(nullif(message, ''), reason)
        FROM attempts WHERE run = ? AND task = ? ORDER BY attempt""",
        [
            Column(name="attempt", kind="count"),
            Column(name="state", kind="state"),
            Column(name="cause"),
            Column(name="worker"),
            Column(name="exit_code", title="exit", kind="count"),
            Column(name="duration_us", title="took", kind="duration_us"),
            Column(name="cpu_us", title="cpu", kind="duration_us"),
            Column(name="peak_rss_bytes", title="memory", kind="bytes"),
            Column(name="requested", wide=True),
            Column(name="actual", wide=True),
            Column(name="output_bytes", title="output", kind="bytes", wide=True),
            Column(name="message", flexible=True),
        ],
    ),
    (
        "cases",
        """SELECT case_id, verdict, duration_us, message
        FROM cases WHERE run = ? AND task = ? ORDER BY attempt, ordinal LIMIT 1000""",
        [
            Column(name="case_id", title="case", flexible=True),
            Column(name="verdict", kind="verdict"),
            Column(name="duration_us", title="took", kind="duration_us"),
            Column(name="message", flexible=True),
        ],
    ),
    (
        "measurements",
        """SELECT name, value, unit, len(samples), case_id
        FROM measurements WHERE run = ? AND task = ?
        ORDER BY attempt, seq, idx, ordinal LIMIT 1000""",
        [
            Column(name="name", flexible=True),
            Column(name="value", kind="number"),
            Column(name="unit"),
            Column(name="samples", kind="count"),
            Column(name="case_id", title="case"),
        ],
    ),
    (
        "artifacts",
        "SELECT path, bytes, digest FROM artifacts WHERE run = ? AND task = ? ORDER BY path",
        [
            Column(name="path", flexible=True),
            Column(name="bytes", title="size", kind="bytes"),
            Column(name="digest"),
        ],
    ),
)
