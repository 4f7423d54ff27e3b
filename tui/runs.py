"""Commands that look at runs. Rule: they read views, and change nothing."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from ..core.listing import Column, Listing
from ..core.session import current
from .history import open_history
from .next_step import command
from .past import outcome_of_history

Limit = Annotated[int, Parameter(name=["--limit", "-n"])]

RUNS = """
SELECT run, name,
    CASE WHEN verdict = 'failed' AND failed = 0 THEN 'incomplete' ELSE coalesce(verdict, state) END
        AS state, tasks, passed, failed,
    settled - passed - failed - skipped AS other, tasks - settled AS pending, wall_us,
    epoch_ns(submitted_at) AS submitted_ns, publisher, retry_of
FROM runs
"""
RUN_COLUMNS = (
    Column(name="run", kind="id"),
    Column(name="name", flexible=True),
    Column(name="state", kind="state"),
    Column(name="tasks", kind="count"),
    Column(name="passed", kind="count"),
    Column(name="failed", kind="count"),
    Column(name="other", kind="count", wide=True),
    Column(name="pending", kind="count", wide=True),
    Column(name="wall_us", title="took", kind="duration_us", wide=True),
    Column(name="submitted_ns", title="submitted", kind="time_ns", wide=True),
    Column(name="publisher", wide=True),
    Column(name="retry_of", title="retry of", kind="id", wide=True),
)


async def runs_ls(*, limit: Limit = 20, failed: bool = False) -> Listing:
    """List runs, newest first.

    Parameters
    ----------
    limit
        Most runs to list.
    failed
        Only runs that did not pass.
    """
    where = "WHERE verdict <> 'passed' " if failed else ""
    async with open_history() as history:
        rows = await history.rows(f"{RUNS} {where}ORDER BY run_pos DESC LIMIT ?", limit)
    return Listing(
        kind="runs",
        columns=RUN_COLUMNS,
        rows=rows,
        empty=f"No runs. Next: {command('run', 'SUITE')}",
    )


async def runs_show(run: str = "last", /) -> Any:
    """One run with its matrix and failures.

    Parameters
    ----------
    run
        Run id, a unique beginning of one, or `last`.
    """
    from .console import say, stdout
    from .next_step import after_run
    from .summary import outcome_record, show_summary

    async with open_history() as history:
        outcome = await outcome_of_history(history, await history.run(run))
    if current().machine:
        record = outcome_record(outcome)
        record.exit_code = 0
        return record
    show_summary(stdout(), outcome)
    if outcome.failures:
        say(f"next: {after_run(outcome)}")
    return 0
