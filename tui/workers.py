"""Commands that look at workers. Rule: they read views, and change nothing."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from ..core.errors import NotFound
from ..core.listing import Column, Field, Listing, Record
from .history import open_history
from .next_step import command
from .past import plain_params

WORKERS = """
SELECT w.worker, w.state, w.hardware, w.cpu_milli / 1000 AS cores, w.memory_bytes, w.devices,
    CASE WHEN w.state IN ('up', 'draining', 'drained') THEN b.running END AS running, b.load1,
    epoch_ns(b.at) AS beat_ns, w.version, w.labels, coalesce(w.reason, w.drained) AS reason
FROM (FROM workers QUALIFY row_number() OVER (PARTITION BY worker ORDER BY worker_pos DESC) = 1) w
LEFT JOIN (FROM heartbeats
    QUALIFY row_number() OVER (PARTITION BY incarnation ORDER BY seq DESC) = 1) b
    USING (incarnation)
"""
WORKER_COLUMNS = (
    Column(name="worker", flexible=True),
    Column(name="state", kind="state"),
    Column(name="hardware", kind="json"),
    Column(name="cores", kind="number"),
    Column(name="memory_bytes", title="memory", kind="bytes"),
    Column(name="devices", kind="count", wide=True),
    Column(name="running", kind="count"),
    Column(name="load1", title="load", kind="number", wide=True),
    Column(name="beat_ns", title="seen", kind="time_ns"),
    Column(name="version", wide=True),
    Column(name="labels", kind="json", wide=True),
    Column(name="reason", wide=True),
)


async def worker_ls(*, all_: Annotated[bool, Parameter(name="--all")] = False) -> Listing:
    """List workers.

    Parameters
    ----------
    all_
        Also those that left or were lost.
    """
    where = "" if all_ else "WHERE w.state NOT IN ('left', 'superseded')"
    async with open_history() as history:
        rows = await history.rows(f"{WORKERS} {where} ORDER BY w.worker")
        live = history.live
    empty = "No workers. Start some: dtf up, or join this machine: dtf-worker run"
    return Listing(
        kind="workers",
        columns=WORKER_COLUMNS,
        rows=[plain_labels(row) for row in rows],
        empty=empty if live else "No pool runs here; workers of the past: dtf worker ls --all",
    )


def plain_labels(row: list[Any]) -> list[Any]:
    """A row of `WORKERS` with its labels decoded."""
    row[10] = plain_params(row[10]) or None
    return row


async def worker_show(worker: str, /) -> Record:
    """One worker with its devices and what it did lately.

    Parameters
    ----------
    worker
        Name of the worker.
    """
    async with open_history() as history:
        rows = await history.rows(f"{WORKERS} WHERE w.worker = ?", worker)
        if not rows:
            raise NotFound(
                f"there is no worker {worker!r}", remedy=command("worker", "ls", "--all")
            )
        devices = await history.rows(
            "SELECT device, hardware, name, memory_bytes, driver, level FROM devices WHERE "
            "worker = ? AND incarnation = (SELECT arg_max(incarnation, worker_pos) FROM workers "
            "WHERE worker = ?) ORDER BY ordinal",
            worker,
            worker,
        )
        recent = await history.rows(
            "SELECT run, task, coalesce(verdict, state), duration_us, epoch_ns(assigned_at) "
            "FROM attempts WHERE worker = ? ORDER BY assigned_pos DESC LIMIT 10",
            worker,
        )
    named = zip(WORKER_COLUMNS, plain_labels(rows[0]), strict=True)
    return Record(
        kind="worker",
        fields=[Field(column.name, value, column.kind, column.heading) for column, value in named],
        parts=[
            Listing(kind="device_list", columns=_DEVICE_COLUMNS, rows=devices, empty="none"),
            Listing(kind="recent", columns=_RECENT_COLUMNS, rows=recent, empty="nothing"),
        ],
    )


_DEVICE_COLUMNS = [
    Column(name="device", flexible=True),
    Column(name="hardware"),
    Column(name="name"),
    Column(name="memory_bytes", title="memory", kind="bytes"),
    Column(name="driver"),
    Column(name="level"),
]
_RECENT_COLUMNS = [
    Column(name="run", kind="id"),
    Column(name="task", flexible=True),
    Column(name="state", kind="state"),
    Column(name="duration_us", title="took", kind="duration_us"),
    Column(name="assigned_ns", title="assigned", kind="time_ns"),
]
