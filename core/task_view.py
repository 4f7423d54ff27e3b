"""One task and one run's refusals, as a client sees them.

Rule: plain records; what is not known stays empty.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import Raw

from .attempts_seen import Finished, Reports
from .events import TaskSettled
from .ids import split_token
from .model import ABSENT, Case, Cause, Measurement, Placement, Verdict


class TaskView(msgspec.Struct, kw_only=True):
    """What is known of one task."""

    id: str
    label: str = ""
    """Its name for people."""
    state: str = "queued"
    """queued, running, finished (not ruled yet) or settled."""
    verdict: Verdict | None = None
    cause: Cause | None = None
    """Why it ended so, or why it was put back last."""
    attempts: int = 0
    """Attempts known of."""
    worker: str = ""
    duration_us: int | None = None
    exit_code: int | None = None
    message: str = ""
    tail: str = ""
    """Last lines of output."""
    output_digest: str | None = None
    """Blob with the whole output."""
    value: Raw = ABSENT
    """What a callable returned, as JSON."""
    placement: Placement | None = None
    cases: list[Case] = []
    measurements: list[Measurement] = []


class Rejection(NamedTuple):
    """A ruling that something submitted does not count."""

    reason: str
    at: tuple[int, int] | None
    """Position of what was refused, where the ruling says it."""
    fatal: bool
    """The whole run was refused."""


def settled_view(
    ruling: TaskSettled, finished: Finished | None, reports: Reports, *, texts: bool
) -> TaskView:
    """The record of a task that is over, with its last words where wanted."""
    named = split_token(ruling.token) if ruling.token is not None else None
    view = TaskView(
        id=ruling.task,
        state="settled",
        verdict=ruling.verdict,
        cause=ruling.cause,
        attempts=named[1] if named else 0,
        cases=reports.cases,
        measurements=reports.measurements,
    )
    if finished is None:
        return view
    ended = finished.event
    view.worker, view.duration_us = finished.worker, ended.duration_us
    view.exit_code, view.placement = ended.exit_code, ended.placement
    view.output_digest = ended.output.digest if ended.output else None
    if texts:
        view.message, view.tail = ended.message, ended.output.tail if ended.output else ""
    return view
