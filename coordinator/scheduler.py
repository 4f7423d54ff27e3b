"""The leader's decisions. Rule: sans-IO; facts and the time go in, one wave of rulings comes out.

`observe` is told every message after it was folded; `decide` returns the next wave: messages that
touch disjoint tasks and workers, cause and effect never together (protocol L5). What is decided
counts as said until the log says otherwise, so nothing is decided twice. Everything here is derived
from the fold: a `Scheduler` made from any state goes on where another leader stopped.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from ..core import events as e
from ..core.codec import Undecodable
from ..core.events import Event
from ..core.fold import Judged
from ..core.ids import is_name
from ..core.model import Cause, Verdict
from ..core.state import Attempt, Group, Pool, Run, Task
from ..core.subjects import Subjects
from . import policy
from .assigner import Assigner
from .capacity import Desk
from .queue import Lane

CAPACITY_GRACE_S = 10.0
"""How long a requirement nobody fits may wait for a worker to join before it is settled as
no_capacity."""
RULINGS_A_MESSAGE_MAX = 1500
"""Rulings on one run in one wave: about 150 bytes each, well under the limit of L6."""
REPLIES_A_WAVE_MAX = 100
UNANSWERED = frozenset({"duplicate", "forged", "subject", "no_pool", "fold_error"})
"""Voids a publisher is not told about: a duplicate is no error (S2), the others have no
publisher."""

Wave = list[tuple[str, list[Event]]]
Rulings = dict[str, list[Event]]


class Scheduler:
    """Decides for one term: from the moment this coordinator read back its own election."""

    def __init__(self, pool: Pool, subjects: Subjects, now: float) -> None:
        self.pool = pool
        self.subjects = subjects
        self.term = pool.term
        self.work = Assigner(pool)
        self._finished: list[Task] = []
        self._returned: list[Task] = []
        self._closing: list[tuple[Attempt, Cause]] = []
        self._ruled: set[str] = set()
        """Tokens whose loss is ruled upon, or about to be."""
        self._complete: dict[str, Run] = {}
        self._invalid: dict[str, Run] = {}
        self._cancelled: dict[str, Run] = {}
        self._cancelled_tasks: list[tuple[Run, str]] = []
        self._over_limit: list[tuple[Run, Group]] = []
        self._homeless: list[Lane] = []
        self._replies: list[tuple[str, Event]] = []
        self._lost: dict[str, tuple[str, str]] = {}
        self._revoke: dict[str, tuple[Attempt, str]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0
        self._take_over(now)

    # -- what is true at the start of a term -------------------------------------------------------
    def _take_over(self, now: float) -> None:
        for worker in self.pool.workers.values():
            if not worker.ended:
                self.work.seat(worker)
        for run in self.pool.runs.values():
            if run.settled:
                self._remember(run.id, now)
                continue
            if run.invalid:
                self._invalid[run.id] = run
            elif run.closed:
                self._schedule_run(run, now)
            else:
                self._watch_incomplete(run, now)
            if run.cancel_at:
                self._cancelled[run.id] = run
            self._cancelled_tasks += [(run, task) for task in run.cancel_tasks]
        self._collect_orphans()

    def _schedule_run(self, run: Run, now: float) -> None:
        """All parts of the run are in: its unsettled tasks wait, or go on where they stand."""
        if run.settled_tasks >= run.size:
            self._complete[run.id] = run
            return
        active: dict[str, list[int]] = {}
        for task in run.tasks.values():
            active.setdefault(task.group.name, []).append(task.index)
        for group in run.groups.values():
            if group.settled < group.size:
                self.work.queue.add_group(run, group, active.get(group.name, ()))
                self._watch_queue_limit(run, group, now)
        for task in run.tasks.values():
            if task.finish is not None:
                self._finished.append(task)
            elif task.waiting:
                self._wait_again(task, now)

    def _collect_orphans(self) -> None:
        """Attempts whose incarnation is over get a ruling each (W3)."""
        for attempt in self.pool.open.values():
            if attempt.orphaned and not attempt.kept and attempt.token not in self._ruled:
                self._ruled.add(attempt.token)
                self._closing.append((attempt, Cause.WORKER_LOST))

    # -- timers ------------------------------------------------------------------------------------
    def _after(self, now: float, delay_ms: int, action: Callable[[], None]) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (now + delay_ms / 1000, self._timer_count, action))

    def next_timer(self) -> float | None:
        """When `decide` has something to do even if nothing is observed; the clock of `now`,
        seconds."""
        return self._timers[0][0] if self._timers else None

    def _watch_incomplete(self, run: Run, now: float) -> None:
        def expire() -> None:
            if not (run.closed or run.settled):
                self._complete[run.id] = run

        self._after(now, self.pool.incomplete_ms, expire)

    def _watch_queue_limit(self, run: Run, group: Group, now: float) -> None:
        def expire() -> None:
            if not run.settled and group.settled < group.size:
                self._over_limit.append((run, group))

        if group.spec.queue_ms is not None:
            self._after(now, group.spec.queue_ms, expire)

    def _remember(self, run: str, now: float) -> None:
        def forget() -> None:
            found = self.pool.runs.get(run)
            if found is not None and found.settled:
                self._replies.append((run, e.RunForgotten(term=self.term)))

        self._after(now, self.pool.remember_ms, forget)

    def _wait_again(self, task: Task, now: float) -> None:
        run, group, index = task.run, task.group, task.index
        if task.delay_ms:
            self._after(now, task.delay_ms, lambda: self.work.queue.put_back(run, group, index))
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
                self._finished.append(task)
                last = event
        if last is not None and task is not None:
            self.work.learn(task.group.spec, last.duration_us)

    def _observe_return(self, task: Task, desk: Desk | None, now: float) -> None:
        if desk is not None:  # it may have lacked the specification: send it again
            desk.known.discard((task.run.id, task.group.name))
        if policy.after_return(task, self.term) is not None:
            self._returned.append(task)
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
                    if event.term == self.term:
                        self.work.undo(worker, event)
                elif (run := self.pool.runs.get(event.run)) is not None and (
                    run.cancel_at or run.cancel_tasks
                ):
                    attempt = self.pool.open[event.token]
                    if policy.cancelled_at(attempt.task):
                        self._stop(attempt)
            elif isinstance(event, e.WorkerLost) and not void:
                self._lost.pop(worker, None)
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
                if event.token is not None and self._ruled:
                    self._ruled.discard(event.token)
                task = run.tasks.get(event.task) if run is not None else None
                for attempt in task.open if task is not None else ():
                    self._stop(attempt)
            elif isinstance(event, e.TaskRequeued):
                self._ruled.discard(event.token)
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
                self._complete.pop(name, None)
                self._remember(name, now)
        if run is not None and run.closed and not run.settled and run.settled_tasks >= run.size:
            self._complete[run.id] = run

    def _observe_run(self, name: str, judged: Judged, now: float) -> None:
        run = self.pool.runs.get(name)
        for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
            if void:
                self._answer(name, judged.message.sequence, index, event, void)
            elif isinstance(event, e.CancelRequested) and run is not None:
                if event.task is None:
                    self._cancelled[run.id] = run
                else:
                    self._cancelled_tasks.append((run, event.task))
        if run is None or run.settled:
            return
        if run.invalid:
            self._invalid[run.id] = run
        elif run.closed:
            if run.closed_at == judged.message.sequence:
                self._schedule_run(run, now)
        elif run.opened_at == judged.message.sequence:
            self._watch_incomplete(run, now)

    def _answer(self, run: str, sequence: int, index: int, event: object, void: str) -> None:
        """Tell a publisher why its event does not count; best effort and bounded."""
        if void in UNANSWERED or len(self._replies) >= REPLIES_A_WAVE_MAX or not is_name(run):
            return
        detail = f": {event.detail}" if isinstance(event, Undecodable) else ""
        reason = f"{void}{detail}"[:256]
        self._replies.append(
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
                self._lost.pop(name, None)
                self.work.seat(worker)
                self._collect_orphans()
            elif isinstance(event, e.WorkerLeft):
                self.work.unseat(name)
                self._collect_orphans()
            elif name in self.work.desks:
                self.work.desks[name].open_for_work = worker.assignable

    # -- what the shell has found out outside the log ----------------------------------------------
    def lose(self, worker: str, incarnation: str, reason: str) -> None:
        """The incarnation is gone, by its connection or its silence: say so in the next wave."""
        known = self.pool.workers.get(worker)
        if known is not None and known.incarnation == incarnation and not known.ended:
            self._lost[worker] = (incarnation, reason[:256])

    def close_unreceived(self, token: str) -> None:
        """The worker never got this attempt (W4): close it in the next wave."""
        attempt = self.pool.open.get(token)
        if attempt is not None and not attempt.orphaned and token not in self._ruled:
            self._ruled.add(token)
            desk = self.work.desks.get(attempt.worker)
            if desk is not None:
                desk.release(token)
            self._closing.append((attempt, Cause.NEVER_RECEIVED))

    def _stop(self, attempt: Attempt) -> None:
        if attempt.revoked != "cancel" and not attempt.orphaned:
            self._revoke[attempt.token] = (attempt, "cancel")

    def kill(self, token: str) -> None:
        """Ask the worker to end an attempt that ran past its limit (A7)."""
        attempt = self.pool.open.get(token)
        if attempt is not None:
            self._stop(attempt)

    # -- decisions ---------------------------------------------------------------------------------
    def decide(self, now: float) -> Wave:
        """The next wave, possibly empty. It counts as said: send it until acknowledged or
        deposed."""
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        rulings: Rulings = {}
        to_worker: dict[str, list[Event]] = {}
        self._rule_tasks(rulings)
        self._rule_losses(rulings)
        self._rule_runs(rulings)
        self._settle_runs(rulings)
        letters, homeless = self.work.assign(
            self._lost.keys() | {a.worker for a, _ in self._revoke.values()}
        )
        for lane in homeless:
            self._watch_capacity(lane, now)
        if not letters:
            for attempt in self.work.spare():
                self._revoke.setdefault(attempt.token, (attempt, "steal"))
        self._rule_workers(to_worker)
        wave: Wave = [
            (self.subjects.ruling(run), events) for run, events in rulings.items() if events
        ]
        wave += [(self.subjects.to_worker(name), events) for name, events in to_worker.items()]
        wave += [(self.subjects.assign(x.hardware, name), x.events) for name, x in letters.items()]
        return wave

    def _rule_tasks(self, rulings: Rulings) -> None:
        finished, self._finished = self._finished, []
        for task in finished:
            finish = task.finish
            if finish is None or task.settled:
                continue
            bucket = rulings.setdefault(task.run.id, [])
            if len(bucket) >= RULINGS_A_MESSAGE_MAX:
                self._finished.append(task)
            else:
                bucket.append(policy.after_finish(task, finish, self.term))
        returned, self._returned = self._returned, []
        for task in returned:
            ruling = None if task.settled or task.open else policy.after_return(task, self.term)
            if ruling is not None:
                rulings.setdefault(task.run.id, []).append(ruling)

    def _rule_losses(self, rulings: Rulings) -> None:
        closing, self._closing = self._closing, []
        for attempt, cause in closing:
            task = attempt.task
            if attempt.token in self.pool.open and task.finish is None and not task.settled:
                rulings.setdefault(task.run.id, []).append(
                    policy.after_loss(task, attempt, cause, self.term)
                )
            else:
                self._ruled.discard(attempt.token)

    def _rule_runs(self, rulings: Rulings) -> None:
        for run in self._invalid.values():
            if not (run.closed or run.settled):
                rejected = e.SubmissionRejected(term=self.term, reason=run.invalid, fatal=True)
                rulings.setdefault(run.id, []).append(rejected)
        self._invalid.clear()
        for run in self._cancelled.values():
            self._cancel_run(run, rulings)
        self._cancelled.clear()
        tasks, self._cancelled_tasks = self._cancelled_tasks, []
        for run, name in tasks:
            self._cancel_task(run, name, rulings)
        limits, self._over_limit = self._over_limit, []
        for run, group in limits:
            self._settle_waiting(
                run,
                group,
                Verdict.TIMED_OUT,
                Cause.QUEUE_LIMIT,
                "waited past its queue limit",
                rulings,
            )
        lanes, self._homeless = self._homeless, []
        for lane in lanes:
            self._no_capacity(lane, rulings)

    def _settle_runs(self, rulings: Rulings) -> None:
        for name, run in list(self._complete.items()):
            if name not in rulings:  # never in one wave with the last TaskSettled (F13)
                del self._complete[name]
                if not run.settled:
                    rulings[name] = [policy.settle_run(run, self.term)]
        replies, self._replies = self._replies, []
        for name, reply in replies:
            rulings.setdefault(name, []).append(reply)

    def _cancel_run(self, run: Run, rulings: Rulings) -> None:
        if run.settled:
            return
        if not run.closed:
            self._complete[run.id] = run
            return
        for group in run.groups.values():
            self._settle_waiting(run, group, Verdict.CANCELLED, Cause.CANCELLED, "", rulings)
        for task in run.tasks.values():
            for attempt in task.open:
                self._stop(attempt)

    def _cancel_task(self, run: Run, name: str, rulings: Rulings) -> None:
        found = run.find(name)
        if run.settled or found is None or found[0].verdicts[found[1]]:
            return
        task = run.tasks.get(name)
        if task is not None and (task.open or task.finish is not None):
            for attempt in task.open:
                self._stop(attempt)
        elif not self.work.in_flight(run.id, name):  # in flight: stopped when it is read back
            self.work.queue.skip(run, found[0], found[1])
            settled = e.TaskSettled(
                term=self.term, task=name, verdict=Verdict.CANCELLED, cause=Cause.CANCELLED
            )
            rulings.setdefault(run.id, []).append(settled)

    def _settle_waiting(
        self, run: Run, group: Group, verdict: Verdict, cause: Cause, message: str, rulings: Rulings
    ) -> None:
        """Every task of the group that has neither an attempt nor a finish is over, by one
        event."""
        if run.settled or group.settled >= group.size:
            return
        self.work.queue.drop_group(run, group)
        busy = {
            t.index
            for t in run.tasks.values()
            if t.group is group and (t.open or t.finish is not None)
        }
        start = group.verdicts.find(0)
        if group.verdicts.count(0) > len(busy):
            settled = e.RangeSettled(
                term=self.term,
                group=group.name,
                start=start,
                stop=group.size,
                verdict=verdict,
                cause=cause,
                message=message,
            )
            rulings.setdefault(run.id, []).append(settled)

    # -- capacity ----------------------------------------------------------------------------------
    def _watch_capacity(self, lane: Lane, now: float) -> None:
        """No free worker fits. When no living worker could ever, start the clock that ends in
        no_capacity."""
        if self.work.any_could_run(lane):
            lane.unfit_since = None
        elif lane.unfit_since is None:
            lane.unfit_since = now

            def expire() -> None:
                if lane.unfit_since == now:
                    lane.unfit_since = None
                    self._homeless.append(lane)

            self._after(now, int(CAPACITY_GRACE_S * 1000), expire)

    def _no_capacity(self, lane: Lane, rulings: Rulings) -> None:
        need = lane.requirement
        cores = f"{need.cpu_milli / 1000:g} cores"
        message = f"no worker of the pool fits {need.hardware} with {cores}; see `dtf plan`"
        for source in list(lane.heap):
            run = source.run
            if (
                source.remaining
                and run.submitted is not None
                and not run.submitted.wait_for_capacity
            ):
                self._settle_waiting(
                    run, source.group, Verdict.NO_CAPACITY, Cause.NO_CAPACITY, message, rulings
                )

    def _rule_workers(self, to_worker: dict[str, list[Event]]) -> None:
        for name, (incarnation, reason) in self._lost.items():
            to_worker[name] = [e.WorkerLost(term=self.term, incarnation=incarnation, reason=reason)]
            if name in self.work.desks:
                self.work.desks[name].open_for_work = False
        self._lost.clear()
        for token, (attempt, mode) in self._revoke.items():
            if token in self.pool.open and not attempt.orphaned:
                revoked = e.AttemptRevoked(
                    term=self.term,
                    run=attempt.task.run.id,
                    token=token,
                    mode="steal" if mode == "steal" else "cancel",
                )
                to_worker.setdefault(attempt.worker, []).append(revoked)
        self._revoke.clear()
