"""Commands that ask for something to happen. Rule: asked and stored durably is what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import NotFound
from ..core.listing import Field, Record
from .history import History, open_history
from .next_step import command

if TYPE_CHECKING:
    from ..core.client import Client


async def runs_cancel(run: str, /, *, reason: str = "") -> Record:
    """Cancel a run: what runs is stopped, what waits never starts.

    Parameters
    ----------
    run
        Run id, a unique beginning of one, or `last`.
    reason
        Told to whoever asks later.
    """
    async with open_history() as history:
        found = await history.run(run)
        await _client(history).cancel(found, None, reason)
    fields = [Field("run", found), Field("cancel", "requested")]
    return Record(kind="cancel", fields=fields, notes=[f"next: {_wait(found)}"])


async def task_cancel(task: str, /, *, reason: str = "") -> Record:
    """Cancel one task of a run; the others go on.

    Parameters
    ----------
    task
        RUN/TASK; RUN may be a unique beginning or `last`.
    reason
        Told to whoever asks later.
    """
    async with open_history() as history:
        named = await history.task(task)
        await _client(history).cancel(named.run, named.task, reason)
    fields = [Field("run", named.run), Field("task", named.task), Field("cancel", "requested")]
    return Record(kind="cancel", fields=fields, notes=[f"next: {_wait(named.run)}"])


async def worker_drain(worker: str, /, *, reason: str = "") -> Record:
    """Take a worker out of rotation: what it runs, ends; nothing new is assigned to it.

    Parameters
    ----------
    worker
        Name of the worker.
    reason
        Shown by `dtf worker ls`.
    """
    return await _drain(worker, True, reason)


async def worker_undrain(worker: str, /) -> Record:
    """Put a drained worker back into rotation.

    Parameters
    ----------
    worker
        Name of the worker.
    """
    return await _drain(worker, False, "")


async def _drain(worker: str, drain: bool, reason: str) -> Record:
    from ..core.events import DrainRequested

    async with open_history() as history:
        if not await history.rows("SELECT 1 FROM workers WHERE worker = ?", worker):
            raise NotFound(
                f"there is no worker {worker!r}; nothing was changed",
                remedy=command("worker", "ls"),
            )
        client = _client(history)
        event = DrainRequested(worker=worker, drain=drain, reason=reason[:256])
        await client.put_event(client.subjects.pool_rulings, event)
    fields = [Field("worker", worker), Field("drain" if drain else "undrain", "requested")]
    return Record(kind="drain", fields=fields, notes=[f"next: {command('worker', 'ls')}"])


def _client(history: History) -> Client:
    if history.client is None:
        raise NotFound(
            "no pool runs here, so there is nothing to change",
            remedy="Start one with `dtf up`, or name a server (--server).",
        )
    return history.client


def _wait(run: str) -> str:
    return command("runs", "wait", run[:10])
