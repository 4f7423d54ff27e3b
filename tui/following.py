"""Following a run to its end. Rule: one consumer and one screen, however many tasks.

The run goes on wherever it is when the follower is gone; only Ctrl-C cancels it, and says so.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio

from ..core.errors import DtfError
from ..core.exit_codes import ExitCode
from ..core.session import current
from .console import say, stderr, stdout
from .interrupts import Interrupts
from .next_step import after_run
from .outcome import DETAIL_MAX, Outcome, outcome_of_view
from .progress import REDRAW_S, ProgressView
from .summary import exit_code, outcome_record, show_summary

if TYPE_CHECKING:
    from ..core.client import Client
    from ..core.follow import RunView


class Follower:
    """Follows one run of a client; `view` is what is known."""

    def __init__(self, client: Client, run: str, *, fail_fast: bool = False) -> None:
        self.client, self.run, self.fail_fast = client, run, fail_fast
        self.view: RunView | None = None
        self.cancelled = False

    async def to_end(self, *, size: int) -> RunView:
        """The view of the run once it is over. Raises `KeyboardInterrupt` at the second Ctrl-C."""
        clock = asyncio.get_running_loop().time
        with ProgressView(stderr(), wanted=current().progress, started_s=clock()) as screen:
            async with anyio.create_task_group() as group:
                group.start_soon(self._draw, screen, name="progress")
                async with aclosing(
                    self.client.follow(self.run, keep_cases=size <= DETAIL_MAX)
                ) as views:
                    async for view in views:
                        self.view = view
                        await self._stop_at_failure(view)
                group.cancel_scope.cancel()
        assert self.view is not None
        return self.view

    async def cancel(self, reason: str) -> None:
        """The run is asked to end, once."""
        if self.cancelled:
            return
        self.cancelled = True
        try:
            await self.client.cancel(self.run, reason=reason)
        except DtfError as error:  # it was over already, or the server is gone: said, not raised
            say(f"The run could not be cancelled: {error}")

    async def _stop_at_failure(self, view: RunView) -> None:
        failed = sum(n for verdict, n in view.counts.items() if verdict not in _GOOD)
        if self.fail_fast and failed and not view.done:
            await self.cancel("--fail-fast")

    async def _draw(self, screen: ProgressView) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            if self.view is not None:
                screen.update(self.view, clock())
            await asyncio.sleep(REDRAW_S)


_GOOD = ("passed", "skipped")


async def follow_to_end(
    client: Client, run: str, *, size: int, fail_fast: bool = False, own: bool = True
) -> tuple[Outcome, bool]:
    """(what became of the run, whether it was interrupted). Ctrl-C cancels a run of our `own`."""
    follower = Follower(client, run, fail_fast=fail_fast)

    async def interrupted() -> None:
        if own:
            say("Cancelling the run; Ctrl-C again ends at once.", style="yellow")
            await follower.cancel("Ctrl-C")
        else:
            interrupts.interrupt()

    with Interrupts(interrupted) as interrupts:
        view = await follower.to_end(size=size)
    return outcome_of_view(view), interrupts.count > 0


def conclude(outcome: Outcome, *, interrupted: bool = False) -> int:
    """The end of the run is on stdout, the next command on stderr; the exit code."""
    from .show import show

    if current().machine:
        show(outcome_record(outcome))
    else:
        show_summary(stdout(), outcome)
    say(f"next: {after_run(outcome)}", style="dim")
    return ExitCode.INTERRUPTED if interrupted else exit_code(outcome)
