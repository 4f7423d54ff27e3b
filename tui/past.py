"""A run as the tables tell it. Rule: the same outcome as following it live gives."""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.errors import NotFound
from ..core.labels import task_label
from .history import History
from .matrix import Seen, latency_us
from .next_step import command
from .outcome import DETAIL_MAX, FAILURES_MAX, Failure, Outcome

_VERDICTS = (
    "passed", "failed", "skipped", "fallback", "timed_out", "cancelled", "no_capacity", "error",
)  # fmt: skip
_RUN = """
SELECT name, state, verdict, reason, tasks, wall_us, retry_of,
    passed, failed, skipped, fallback, timed_out, cancelled, no_capacity, error
FROM runs WHERE run = ? ORDER BY run_pos DESC LIMIT 1
"""
_WORDS = {"waiting": "queued", "assigned": "queued", "finished": "running"}


async def outcome_of_history(history: History, run: str) -> Outcome:
    """What the tables tell of a run. Raises `NotFound`."""
    found = await history.rows(_RUN, run)
    if not found:
        raise NotFound(f"there is no run {run!r}", remedy=f"List them: {command('runs', 'ls')}")
    name, state, verdict, reason, size, wall_us, retry_of, *numbers = found[0]
    return Outcome(
        run=run,
        name=name or "",
        state=state,
        verdict=verdict or ("rejected" if state == "rejected" else None),
        reason=reason or "",
        counts={v: n for v, n in zip(_VERDICTS, numbers, strict=True) if n},
        size=size or 0,
        wall_us=wall_us,
        seen=await (_seen(history, run) if (size or 0) <= DETAIL_MAX else _sums(history, run)),
        failures=await _failures(history, run),
        retry_of=retry_of,
    )


def known_state(state: str) -> str:
    """A task's state in the words of the screens."""
    return _WORDS.get(state, state)


def plain_params(params: str | None) -> dict[str, Any]:
    """The parameters of a row, decoded; empty when it has none."""
    return msgspec.json.decode(params, type=dict[str, Any]) if params else {}


async def _failures(history: History, run: str) -> list[Failure]:
    """Cases of pytest's shards that failed, then tasks that did, unless by such a case."""
    rows = await history.rows(
        """SELECT f.task, f.label, f.params, f.verdict, f.cause, f.message, f.output_tail, f.worker,
            f.attempts, f.exit_code, f.duration_us
        FROM failures f WHERE f.run = ? AND NOT EXISTS (
            FROM cases c JOIN groups g USING (group_pos)
            WHERE c.assigned_pos = f.assigned_pos AND g.runner = 'pytest'
                AND c.verdict NOT IN ('passed', 'skipped'))
        ORDER BY f.seq, f.idx LIMIT ?""",
        run,
        FAILURES_MAX,
    )
    return [*await _failed_cases(history, run)] + [
        Failure(
            task,
            task_label(label, plain_params(params), 0, 1),
            verdict,
            cause,
            message or "",
            tail or "",
            *rest,
        )
        for task, label, params, verdict, cause, message, tail, *rest in rows
    ]


async def _failed_cases(history: History, run: str) -> list[Failure]:
    rows = await history.rows(
        """SELECT t.task, c.case_id, c.verdict, t.cause, c.message, t.worker, c.tries, c.duration_us
        FROM cases c JOIN tasks t USING (assigned_pos) JOIN groups g ON g.group_pos = c.group_pos
        WHERE t.run = ? AND g.runner = 'pytest' AND c.verdict NOT IN ('passed', 'skipped')
        ORDER BY c.seq, c.idx, c.ordinal LIMIT ?""",
        run,
        FAILURES_MAX,
    )
    return [
        Failure(task, case, verdict, cause, message or "", "", worker, tries, None, duration_us)
        for task, case, verdict, cause, message, worker, tries, duration_us in rows
    ]


async def _files_seen(history: History, run: str) -> list[Seen]:
    """Cases of pytest's shards, by file and verdict."""
    rows = await history.rows(
        """SELECT split_part(c.case_id, '::', 1) AS file, t.hardware, c.verdict, count(*)
        FROM cases c JOIN tasks t USING (assigned_pos) JOIN groups g ON g.group_pos = c.group_pos
        WHERE t.run = ? AND g.runner = 'pytest' GROUP BY ALL ORDER BY file LIMIT ?""",
        run,
        DETAIL_MAX,
    )
    return [
        Seen("pytest", {"file": file}, hardware, verdict, None, times)
        for file, hardware, verdict, times in rows
    ]


async def _sums(history: History, run: str) -> list[Seen]:
    """The tasks of a large run, summed up by test."""
    rows = await history.rows(
        """SELECT label, hardware, coalesce(verdict, state), count(*) FROM tasks WHERE run = ?
        GROUP BY ALL ORDER BY min(group_pos)""",
        run,
    )
    return [
        Seen(label, {}, hw, known_state(state), None, times) for label, hw, state, times in rows
    ]


async def _seen(history: History, run: str) -> list[Seen]:
    latencies = await _latencies(history, run)
    rows = await history.rows(
        """SELECT task, label, params, hardware, coalesce(verdict, state) FROM (
            SELECT task, label, params, hardware, verdict, state, group_pos, task_index
            FROM tasks WHERE run = ? AND NOT EXISTS (
                FROM cases c JOIN groups g USING (group_pos)
                WHERE c.assigned_pos = tasks.assigned_pos AND g.runner = 'pytest')
            UNION ALL SELECT task, label, params, hardware, NULL, 'queued', group_pos, task_index
            FROM queued_tasks WHERE run = ?
        ) ORDER BY group_pos, task_index""",
        run,
        run,
    )
    return await _files_seen(history, run) + [
        Seen(label, plain_params(params), hardware, known_state(state), latencies.get(task))
        for task, label, params, hardware, state in rows
    ]


async def _latencies(history: History, run: str) -> dict[str, float]:
    """Tasks whose accepted attempt measured a latency -> microseconds."""
    rows = await history.rows(
        """SELECT m.task, m.name, m.value, m.unit, m.samples
        FROM measurements m JOIN tasks t USING (assigned_pos)
        WHERE m.run = ? AND m.name ILIKE '%latency%' ORDER BY m.seq, m.idx, m.ordinal""",
        run,
    )
    measured: dict[str, list[Any]] = {}
    for task, *measurement in rows:
        measured.setdefault(task, []).append(measurement)
    found = ((task, latency_us(values)) for task, values in measured.items())
    return {task: value for task, value in found if value is not None}
