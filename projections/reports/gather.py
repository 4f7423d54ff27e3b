"""Everything a report tells about a run, from the rows.

Rule: what was accepted counts: cases and measurements of the attempt that settled the task.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...core.errors import NotFound
from ..asking import Asking, objects

TASKS = """
SELECT task, task_index, label, params, hardware, state, verdict, cause, attempts, worker,
    duration_us, exit_code, message, value, cpu_us, peak_rss_bytes, requested, actual,
    output_digest, output_tail, settled_at, assigned_pos, group_pos, group_name
FROM tasks WHERE run = ? AND group_pos IN (SELECT group_pos FROM groups WHERE run_pos = ?)
ORDER BY group_pos, task_index
"""
CASES = """
SELECT c.assigned_pos, c.case_id, c.verdict, c.duration_us, c.message, c.tries, c.detail
FROM cases c JOIN tasks t USING (assigned_pos) WHERE t.run = ? AND t.verdict IS NOT NULL
ORDER BY c.seq, c.idx, c.ordinal
"""
MEASUREMENTS = """
SELECT m.assigned_pos, m.name, m.value, m.unit, m.case_id, m.samples
FROM measurements m JOIN tasks t USING (assigned_pos) WHERE t.run = ? AND t.verdict IS NOT NULL
ORDER BY m.seq, m.idx, m.ordinal
"""
ARTIFACTS = """
SELECT a.assigned_pos, a.path, a.digest, a.bytes
FROM artifacts a JOIN tasks t USING (assigned_pos) WHERE t.run = ? AND t.verdict IS NOT NULL
ORDER BY a.path
"""


class RunReport(msgspec.Struct, kw_only=True):
    """A run with its parts; rows are objects with the columns of the views."""

    run: dict[str, Any]
    groups: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    """In order of group and index; each with its lists `cases`, `measurements` and `artifacts`."""


async def gather(asking: Asking, run: str) -> RunReport:
    """The newest run of this id as it stands. Raises `NotFound`."""
    found = objects(
        await asking.table("FROM runs WHERE run = ? ORDER BY run_pos DESC LIMIT 1", run)
    )
    if not found:
        raise NotFound(f"there is no run {run!r}", remedy="List them with: dtf runs ls")
    place = found[0]["run_pos"]
    groups = objects(await asking.table("FROM groups WHERE run_pos = ? ORDER BY group_pos", place))
    tasks = objects(await asking.table(TASKS, run, place))
    parts: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for name, sql in (("cases", CASES), ("measurements", MEASUREMENTS), ("artifacts", ARTIFACTS)):
        for row in objects(await asking.table(sql, run)):
            attempt = parts.setdefault(row.pop("assigned_pos"), {})
            attempt.setdefault(name, []).append(row)
    for task in tasks:
        mine = parts.get(task["assigned_pos"], {})
        for name in ("cases", "measurements", "artifacts"):
            task[name] = mine.get(name, []) if task["verdict"] else []
    return RunReport(run=found[0], groups=groups, tasks=tasks)
