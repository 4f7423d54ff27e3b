"""`dtf status`: one screen. Rule: the pool first, then what is open, what was, and who works."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Any

from cyclopts import Parameter

from ..core.listing import Field, Listing, Record
from ..core.session import current
from .console import stdout
from .history import History, open_history
from .next_step import command
from .runs import RUN_COLUMNS, RUNS
from .workers import WORKER_COLUMNS, WORKERS, plain_labels

RECENT = 5
WATCH_S = 1.0
_POOL = """
SELECT pool, position,
    (SELECT arg_max(coordinator, term) FROM leaders), (SELECT max(term) FROM leaders),
    (SELECT count(*) FROM workers WHERE state = 'up'),
    (SELECT count(*) FROM workers WHERE state IN ('draining', 'drained')),
    (SELECT sum(queued) FROM runs WHERE state = 'active'),
    (SELECT sum(active) FROM runs WHERE state = 'active')
FROM meta
"""


async def status(
    *, watch: Annotated[bool, Parameter(name=["--watch", "-w"], negative="")] = False
) -> Any:
    """One screen: the pool, its open runs, the last ones, its workers.

    Parameters
    ----------
    watch
        Draw it again every second until Ctrl-C.
    """
    async with open_history() as history:
        if not watch:
            return await status_record(history)
        with suppress(asyncio.CancelledError):  # Ctrl-C is how watching ends
            await _watch(history)
    return 0


async def status_record(history: History) -> Record:
    """What the screen shows."""
    config = current().config
    pool, position, leader, term, up, drained, queued, active = (await history.rows(_POOL))[0]
    open_runs = await history.rows(f"{RUNS} WHERE state IN ('open', 'active') ORDER BY run_pos")
    recent = await history.rows(
        f"{RUNS} WHERE state NOT IN ('open', 'active') ORDER BY run_pos DESC LIMIT {RECENT}"
    )
    workers = await history.rows(f"{WORKERS} WHERE w.state NOT IN ('left', 'superseded', 'lost')")
    where = config.server or ("this machine" if history.live else "this machine, not running")
    fields = [
        Field("pool", pool),
        Field("server", where),
        Field("leader", f"{leader}, term {term}" if leader and history.live else None),
        Field("workers", int(up) if history.live else 0, "count", "workers up"),
        Field("drained", int(drained) or None, "count"),
        Field("queued", int(queued or 0), "count", "tasks queued"),
        Field("active", int(active or 0), "count", "tasks at work"),
        Field("position", position, "count", "log position"),
    ]
    return Record(
        kind="status",
        fields=fields,
        parts=[
            Listing(kind="open", columns=RUN_COLUMNS, rows=open_runs, empty="no open runs"),
            Listing(kind="recent", columns=RUN_COLUMNS, rows=recent, empty="no runs yet"),
            Listing(
                kind="worker_list",
                columns=WORKER_COLUMNS,
                rows=[plain_labels(row) for row in workers] if history.live else [],
                empty="none",
            ),
        ],
        notes=[] if history.live else [f"No pool runs here. Start one: {command('up')}"],
    )


async def _watch(history: History) -> None:
    from rich.live import Live

    from .tables import record_view

    console = stdout()
    if not console.is_terminal:
        while True:
            console.print(record_view(console, await status_record(history)))
            await asyncio.sleep(10 * WATCH_S)
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(record_view(console, await status_record(history)), refresh=True)
            await asyncio.sleep(WATCH_S)
