"""What the leader takes note of. Rule: each folded message is seen once; void events do nothing.

Sans-IO. `Observer` looks at facts after the fold judged them, keeps the waiting tasks and the desks
of the workers up to date, and writes down what the next wave has to rule upon.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core import events as e
from ..core.codec import Undecodable
from ..core.fold import Judged
from ..core.ids import is_name
from ..core.model import Cause
from ..core.state import Group, Pool, Run, Task
from . import policy
from .assigner import Assigner
from .capacity import Desk
from .notes import Notes

REPLIES_A_WAVE_MAX = 100
UNANSWERED = frozenset({"duplicate", "forged", "subject", "no_pool", "fold_error"})
"""Voids a publisher is not told about: a duplicate is no error (S2), the others have no
publisher."""


class Observer:
    """Facts to notes, for one term; starts from whatever state the pool is in."""

    def __init__(self, pool: Pool, work: Assigner, notes: Notes, now: float) -> None:
        self.pool = pool
        self.term = pool.term
        self.work = work
        self.notes = notes
        self._take_over(now)

    def _take_over(self, now: float) -> None:
        for worker in self.pool.workers.values():
            if not worker.ended:
                self.work.seat(worker)
        for run in self.pool.runs.values():
            if run.settled:
                self._remember(run.id, now)
                continue
            if run.invalid:
                self.notes.invalid[run.id] = run
            elif run.closed or run.streams:
                self._schedule_run(run, now)
            if not (run.closed or run.invalid):
                self._watch_incomplete(run, now)
            if run.cancel_at:
                self.notes.cancelled[run.id] = run
            self.notes.cancelled_tasks += [(run, task) for task in run.cancel_tasks]
        self._collect_orphans()

    def _schedule_run(self, run: Run, now: float) -> None:
        """The unsettled tasks of the run wait, or go on where they stand."""
        if run.settled_tasks >= run.size:
            self._complete(run)
            return
        active: dict[str, list[int]] = {}
        for task in run.tasks.values():
            active.setdefault(task.group.name, []).append(task.index)
        for group in run.groups.values():
            if group.settled < group.size:
                self._schedule_group(run, group, now, active.get(group.name, ()))
        for task in run.tasks.values():
            if task.finish is not None:
                self.notes.finished.append(task)
            elif task.waiting:
                self._wait_again(task, now)

    def _schedule_group(
        self, run: Run, group: Group, now: float, active: Sequence[int] = ()
    ) -> None:
        self.work.queue.add_group(run, group, active)
        self._watch_queue_limit(run, group, now)

    def _schedule_parts(self, run: Run, judged: Judged, now: float) -> None:
        """What the message adds to a streamed run waits; more may follow."""
        pairs = zip(judged.events, judged.voids, strict=False)
        landed = [event for event, void in pairs if not void]
        if any(isinstance(event, e.RunSubmitted) for event in landed):
            self._schedule_run(run, now)  # parts that came before it are scheduled with it
            return
        for event in landed:
            if isinstance(event, e.TasksSubmitted):
                self._schedule_group(run, run.groups[event.group], now)
        if run.cancel_at:
            self.notes.cancelled[run.id] = run

    def _complete(self, run: Run) -> None:
        """The run is settled next, if nothing of it is left or can come."""
        if run.settled or run.settled_tasks < run.size:
            return
        if run.closed or (run.streams and run.cancel_at):
            self.notes.complete[run.id] = run

    def _collect_orphans(self) -> None:
        """Attempts whose incarnation is over get a ruling each (W3)."""
        for attempt in self.pool.open.values():
            if attempt.orphaned and not attempt.kept:
                self.notes.close(attempt, Cause.WORKER_LOST)

    # -- timers ------------------------------------------------------------------------------------
    def _watch_incomplete(self, run: Run, now: float) -> None:
        parts = len(run.parts)

        def expire() -> None:
            if run.closed or run.settled:
                return
            if run.streams and (len(run.parts) > parts or run.settled_tasks < run.size):
                self._watch_incomplete(run, now + self.pool.incomplete_ms / 1000)  # it is alive
            else:
                self.notes.complete[run.id] = run

        self.notes.after(now, self.pool.incomplete_ms, expire)

    def _watch_queue_limit(self, run: Run, group: Group, now: float) -> None:
        def expire() -> None:
            if not run.settled and group.settled < group.size:
                self.notes.over_limit.append((run, group))

        if group.spec.queue_ms is not None:
            self.notes.after(now, group.spec.queue_ms, expire)

    def _remember(self, run: str, now: float) -> None:
        def forget() -> None:
            found = self.pool.runs.get(run)
            if found is not None and found.settled:
                self.notes.replies.append((run, e.RunForgotten(term=self.term)))

        self.notes.after(now, self.pool.remember_ms, forget)

    def _wait_again(self, task: Task, now: float) -> None:
        run, group, index = task.run, task.group, task.index
        if task.delay_ms:
            self.notes.after(
                now, task.delay_ms, lambda: self.work.queue.put_back(run, group, index)
            )
        else:
            self.work.queue.put_back(run, group, index)

    # -- facts -------------------------------------------------------------------------------------
    def observe(self, judged: Judged, now: float) -> None:
        """Take note of a message that was just folded into the pool."""
        subject = judged.subject
        if subject is None:
            return
        kind = subject.kind
        if kind == "attempt":
            self._observe_attempts(subject.owner, judged.events, judged.voids, now)
        elif kind == "assign":
            self._observe_assignments(subject.owner, judged.events, judged.voids)
        elif kind == "ruling":
            self._observe_rulings(subject.run, judged.events, judged.voids, now)
        elif kind == "run":
            self._observe_run(subject.run, judged, now)
        elif kind in ("worker", "pool"):
            self._observe_workers(subject.owner, judged.events, judged.voids)

    def _observe_attempts(
        self, worker: str, events: Sequence[object], voids: Sequence[str], now: float
    ) -> None:
        desk = self.work.desks.get(worker)
        runs = self.pool.runs
        last: e.AttemptFinished | None = None
        task: Task | None = None
        for event, void in zip(events, voids, strict=False):
            if void or not isinstance(event, (e.AttemptFinished, e.AttemptReturned)):
                continue
            token = event.token
            seat = desk.release(token) if desk is not None else None
            run = runs.get(seat.run) if seat is not None else None
            name = token[: token.index(".")]
            task = run.tasks.get(name) if run is not None else self._find_task(name, token)
            if task is None or task.settled:
                continue
            if isinstance(event, e.AttemptReturned):
                self._observe_return(task, desk, now)
            elif task.finish is not None and task.finish.token == token:
                self.notes.finished.append(task)
                last = event
        if last is not None and task is not None:
            self.work.learn(task.group.spec, last.duration_us)

    def _observe_return(self, task: Task, desk: Desk | None, now: float) -> None:
        if desk is not None:  # it may have lacked the specification: send it again
            desk.known.discard((task.run.id, task.group.name))
        if policy.after_return(task, self.term) is not None:
            self.notes.returned.append(task)
        elif task.waiting:
            self._wait_again(task, now)

    def _find_task(self, name: str, token: str) -> Task | None:
        """The task of a finish this leader holds no seat for: its attempt was orphaned or kept
        open."""
        for run in self.pool.runs.values():
            task = run.tasks.get(name)
            if task is not None and task.finish is not None and task.finish.token == token:
                return task
        return None

    def _observe_assignments(
        self, worker: str, events: Sequence[object], voids: Sequence[str]
    ) -> None:
        for event, void in zip(events, voids, strict=False):
            if isinstance(event, e.TaskAssigned):
                if void:
                    self.work.undo(worker, event)
                    continue
                self.work.read(event)
                if (run := self.pool.runs.get(event.run)) is not None and (
                    run.cancel_at or run.cancel_tasks
                ):
                    attempt = self.pool.open[event.token]
                    if policy.cancelled_at(attempt.task):
                        self.notes.stop(attempt)
            elif isinstance(event, e.WorkerLost) and not void:
                self.notes.lost.pop(worker, None)
                self.work.unseat(worker)
                self._collect_orphans()

    def _observe_rulings(
        self, name: str, events: Sequence[object], voids: Sequence[str], now: float
    ) -> None:
        run = self.pool.runs.get(name)
        for event, void in zip(events, voids, strict=False):
            if void:
                continue
            if isinstance(event, e.TaskSettled):
                if event.token is not None and self.notes.ruled:
                    self.notes.ruled.discard(event.token)
                task = run.tasks.get(event.task) if run is not None else None
                for attempt in task.open if task is not None else ():
                    self.notes.stop(attempt)
            elif isinstance(event, e.TaskRequeued):
                self.notes.ruled.discard(event.token)
                task = (
                    run.tasks.get(event.token[: event.token.index(".")])
                    if run is not None
                    else None
                )
                if task is not None and task.waiting:
                    self._wait_again(task, now)
            elif isinstance(event, e.RunSettled) or (
                isinstance(event, e.SubmissionRejected) and event.fatal
            ):
                self.work.forget_run(name)
                self.notes.complete.pop(name, None)
                self._remember(name, now)
                self._stop_rest(name)
        if run is not None:
            self._complete(run)

    def _observe_run(self, name: str, judged: Judged, now: float) -> None:
        run = self.pool.runs.get(name)
        for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
            if void:
                self._answer(name, judged.message.sequence, index, event, void)
            elif isinstance(event, e.CancelRequested) and run is not None:
                if event.task is None:
                    self.notes.cancelled[run.id] = run
                else:
                    self.notes.cancelled_tasks.append((run, event.task))
        if run is None or run.settled:
            return
        if run.invalid:
            self.notes.invalid[run.id] = run
            return
        if run.submitted is not None and run.submitted.streamed:
            self._schedule_parts(run, judged, now)
            self._complete(run)
        elif run.closed and run.closed_at == judged.message.sequence:
            self._schedule_run(run, now)
            if run.cancel_at:  # asked for while parts were missing
                self.notes.cancelled[run.id] = run
        if run.opened_at == judged.message.sequence and not run.closed:
            self._watch_incomplete(run, now)

    def _stop_rest(self, run: str) -> None:
        """Attempts of a run that was refused in mid-stream end; others have ended before it."""
        for attempt in self.pool.open.values():
            if attempt.task.run.id == run:
                self.notes.stop(attempt)

    def _answer(self, run: str, sequence: int, index: int, event: object, void: str) -> None:
        """Tell a publisher why its event does not count; best effort and bounded."""
        if void in UNANSWERED or len(self.notes.replies) >= REPLIES_A_WAVE_MAX or not is_name(run):
            return
        detail = f": {event.detail}" if isinstance(event, Undecodable) else ""
        reason = f"{void}{detail}"[:256]
        self.notes.replies.append(
            (
                run,
                e.SubmissionRejected(term=self.term, reason=reason, sequence=sequence, index=index),
            )
        )

    def _observe_workers(self, owner: str, events: Sequence[object], voids: Sequence[str]) -> None:
        for event, void in zip(events, voids, strict=False):
            name = event.worker if isinstance(event, e.DrainRequested) else owner
            worker = self.pool.workers.get(name)
            if void or worker is None:
                continue
            if isinstance(event, e.WorkerJoined):
                self.notes.lost.pop(name, None)
                self.work.seat(worker)
                self._collect_orphans()
            elif isinstance(event, e.WorkerLeft):
                self.work.unseat(name)
                self._collect_orphans()
            elif name in self.work.desks:
                self.work.desks[name].open_for_work = worker.assignable
