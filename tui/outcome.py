"""What became of a run, wherever it was learned from. Rule: one shape for the view and the history.

Pure: `outcome_of_view` reads a followed run; `looking` fills the same from the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from ..core.ids import task_id
from ..core.labels import decode_params
from ..core.model import task_params
from .matrix import Seen, latency_us

if TYPE_CHECKING:
    from ..core.events import TasksSubmitted
    from ..core.follow import RunView
    from ..core.task_view import TaskView

DETAIL_MAX = 5_000
"""Runs of more tasks are summed up by group: nobody reads a matrix of all of them."""
FAILURES_MAX = 1_000
"""Failures an outcome carries; the counts tell of all."""


class Failure(NamedTuple):
    """A task that neither passed nor was skipped."""

    task: str
    label: str
    verdict: str
    cause: str | None = None
    message: str = ""
    tail: str = ""
    worker: str | None = None
    attempts: int | None = None
    exit_code: int | None = None
    duration_us: int | None = None


class Outcome(Struct, kw_only=True):
    """A run and what is known of its tasks."""

    run: str
    name: str
    state: str
    verdict: str | None
    reason: str = ""
    counts: dict[str, int]
    size: int
    wall_us: float | None
    seen: Sequence[Seen]
    failures: Sequence[Failure]
    retry_of: str | None = None

    @property
    def failed(self) -> int:
        """Tasks that neither passed nor were skipped."""
        return sum(n for verdict, n in self.counts.items() if verdict not in ("passed", "skipped"))


def outcome_of_view(view: RunView) -> Outcome:
    """What a followed run tells now."""
    submission = view.submission
    began, ended = view.submitted_ns, view.settled_ns
    submitted = submission.submitted if submission else None
    return Outcome(
        run=view.run,
        name=view.name,
        state=view.state,
        verdict=view.verdict or ("rejected" if view.rejected else None),
        reason=view.rejected,
        counts={str(verdict): count for verdict, count in view.counts.items() if count},
        size=view.size,
        wall_us=(ended - began) / 1000 if began is not None and ended is not None else None,
        seen=list(_seen(view) if view.size <= DETAIL_MAX else _seen_groups(view)),
        failures=[*map(_failure, islice(view.failures(), FAILURES_MAX)), *_range_failures(view)],
        retry_of=submitted.retry_of if submitted else None,
    )


def _failure(task: TaskView) -> Failure:
    return Failure(
        task=task.id,
        label=task.label or task.id,
        verdict=str(task.verdict),
        cause=str(task.cause) if task.cause else None,
        message=task.message,
        tail=task.tail,
        worker=task.worker or None,
        attempts=task.attempts or None,
        exit_code=task.exit_code,
        duration_us=task.duration_us,
    )


def _range_failures(view: RunView) -> Iterator[Failure]:
    """One for each ruling that settled many tasks at once: they share their story."""
    for ruling in view.ranges:
        if ruling.verdict in ("passed", "skipped"):
            continue
        tasks = [task_id(ruling.group, index) for index in range(ruling.start, ruling.stop)]
        left = [task for task in tasks if task not in view.tasks]
        if left:
            found = view.find(left[0])
            label = found.label if found and found.label else left[0]
            yield Failure(
                task=left[0],
                label=f"{label} and {len(left) - 1:,} more like it" if len(left) > 1 else label,
                verdict=str(ruling.verdict),
                cause=str(ruling.cause),
                message=ruling.message,
            )


def _seen(view: RunView) -> Iterator[Seen]:
    for group, index, verdict in view.verdicts():
        task = view.tasks.get(task_id(group.group, index))
        measured = task.measurements if task else ()
        yield Seen(
            label=group.label or group.group,
            params=decode_params(task_params(group.items, group.axes, index)),
            hardware=group.spec.require.hardware,
            state=str(verdict) if verdict else (task.state if task else "queued"),
            latency_us=latency_us((m.name, m.value, m.unit, m.samples) for m in measured),
        )


def _seen_groups(view: RunView) -> Iterator[Seen]:
    """One for each group and verdict."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for group, _, verdict in view.verdicts():
        counts[_group_key(group, str(verdict) if verdict else "queued")] += 1
    for (label, hardware, state), count in counts.items():
        yield Seen(label=label, params={}, hardware=hardware, state=state, times=count)


def _group_key(group: TasksSubmitted, state: str) -> tuple[str, str, str]:
    return group.label or group.group, group.spec.require.hardware, state
