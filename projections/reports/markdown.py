"""Markdown for a pull request or a job summary: the verdict, the matrix, what failed and how.

Rule: it fits a comment; what is left out is counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...core.model import HARDWARE
from .gather import RunReport

WORST_FIRST = (
    "failed", "error", "timed_out", "fallback", "no_capacity", "cancelled", "running", "assigned",
    "finished", "waiting", "skipped", "passed",
)  # fmt: skip
MARKS = {"passed": "✅", "skipped": "⏭️", "cancelled": "🚫", "fallback": "⚠️", "no_capacity": "⚠️"}
FAILURES_SHOWN = 20
TAIL_LINES = 12
LINE_CHARACTERS = 300
Row = dict[str, Any]


def markdown_text(report: RunReport) -> str:
    """The report as Markdown."""
    run = report.run
    verdict = run["verdict"] or run["state"]
    lines = [f"## {MARKS.get(verdict, '❌')} {_cell(run['name'] or run['run'])}: {verdict}", ""]
    lines += [_sentence(run), ""]
    lines += _matrix(report.tasks)
    lines += _failures([t for t in report.tasks if t["verdict"] not in (None, "passed", "skipped")])
    return "\n".join(lines).rstrip() + "\n"


def _sentence(run: Row) -> str:
    counts = [f"{run[v]:,} {v.replace('_', ' ')}" for v in reversed(WORST_FIRST) if run.get(v)]
    left = [f"{run[key]:,} {key}" for key in ("active", "queued") if run[key]]
    parts = [f"{run['tasks']:,} tasks: " + (", ".join(counts + left) or "none settled")]
    if run["wall_us"]:
        parts.append(f"{run['wall_us'] / 1e6:.2f} s")
    if run["reason"]:
        parts.append(_cell(run["reason"]))
    return " · ".join([*parts, f"run `{run['run']}`"])


def _matrix(tasks: list[Row]) -> list[str]:
    """Labels down, hardware across; a cell shows the worst verdict, how many passed, and p50."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for task in tasks:
        cells.setdefault((task["label"], task["hardware"]), []).append(task)
    if not cells:
        return []
    order = {name: place for place, name in enumerate(HARDWARE)}
    across = sorted({hw for _, hw in cells}, key=lambda hw: (order.get(hw, 99), hw))
    labels = list(dict.fromkeys(label for label, _ in cells))
    lines = ["| | " + " | ".join(map(_cell, across)) + " |", "|---|" + "---|" * len(across)]
    for label in labels:
        row = [_matrix_cell(cells.get((label, hw), [])) for hw in across]
        lines.append(f"| {_cell(label)} | " + " | ".join(row) + " |")
    return [*lines, ""]


def _matrix_cell(tasks: list[Row]) -> str:
    if not tasks:
        return ""
    seen = Counter(task["verdict"] or task["state"] for task in tasks)
    worst = next((name for name in WORST_FIRST if seen[name]), next(iter(seen)))
    times = sorted(task["duration_us"] for task in tasks if task["duration_us"] is not None)
    share = f" {seen['passed']}/{len(tasks)}" if len(tasks) > 1 else ""
    middle = f" · {_time(times[len(times) // 2])}" if times else ""
    word = "" if worst == "passed" else f" {worst.replace('_', ' ')}"
    return f"{MARKS.get(worst, '❌')}{word}{share}{middle}"


def _failures(tasks: list[Row]) -> list[str]:
    if not tasks:
        return []
    lines = [f"### What did not pass ({len(tasks):,})", ""]
    for task in tasks[:FAILURES_SHOWN]:
        lines += _failure(task)
    if len(tasks) > FAILURES_SHOWN:
        lines += [f"... and {len(tasks) - FAILURES_SHOWN:,} more.", ""]
    return lines


def _failure(task: Row) -> list[str]:
    where = f"{task['hardware']}" + (f", worker {task['worker']}" if task["worker"] else "")
    params = f" `{task['params']}`" if task["params"] else ""
    lines = [
        f"- **{_cell(task['label'])}** `{task['task']}`{params}: {task['verdict']} "
        f"({task['cause']}) on {where}" + (f": {_cell(task['message'])}" if task["message"] else "")
    ]
    tail = (task["output_tail"] or "").rstrip().splitlines()[-TAIL_LINES:]
    if tail:
        fence = "`" * max(3, 1 + max(line.count("`") for line in tail))
        shown = [f"  {line[:LINE_CHARACTERS]}" for line in tail]
        lines += ["", f"  {fence}text", *shown, f"  {fence}", ""]
    return lines


def _time(us: int) -> str:
    if us < 1000:
        return f"{us} µs"
    return f"{us / 1000:.3g} ms" if us < 1e6 else f"{us / 1e6:.3g} s"


def _cell(text: object) -> str:
    return " ".join(
        str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split()
    )
