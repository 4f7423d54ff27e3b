"""The leader's decisions. Rule: sans-IO; facts and the time go in, one wave of rulings comes out.

`observe` is told every message after it was folded; `decide` returns the next wave: messages that
touch disjoint tasks and workers, cause and effect never together (protocol L5). What is decided
counts as said until the log says otherwise, so nothing is decided twice. Everything here is derived
from the fold: a `Scheduler` made from any state goes on where another leader stopped.
"""

from __future__ import annotations

from ..core import events as e
from ..core.events import Event
from ..core.fold import Judged
from ..core.model import Cause, Verdict
from ..core.state import Group, Pool, Run
from ..core.subjects import Subjects
from . import policy
from .assigner import Assigner
from .notes import Notes
from .observer import Observer
from .queue import Lane

CAPACITY_GRACE_S = 10.0
"""How long a requirement nobody fits may wait for a worker to join before it is settled as
no_capacity."""
RULINGS_A_MESSAGE_MAX = 1500
"""Rulings on one run in one wave: about 150 bytes each, well under the limit of L6."""

Wave = list[tuple[str, list[Event]]]
Rulings = dict[str, list[Event]]


class Scheduler:
    """Decides for one term: from the moment this coordinator read back its own election."""

    def __init__(self, pool: Pool, subjects: Subjects, now: float) -> None:
        self.pool = pool
        self.subjects = subjects
        self.term = pool.term
        self.work = Assigner(pool)
        self.notes = Notes()
        self._observer = Observer(pool, self.work, self.notes, now)

    def observe(self, judged: Judged, now: float) -> None:
        """Take note of a message that was just folded into the pool; `now` in seconds."""
        self._observer.observe(judged, now)

    def next_timer(self) -> float | None:
        """When `decide` has something to do even if nothing is observed; the clock of `now`."""
        return self.notes.next_timer()

    # -- what the shell has found out outside the log ----------------------------------------------
    def lose(self, worker: str, incarnation: str, reason: str) -> None:
        """The incarnation is gone, by its connection or its silence: say so in the next wave."""
        known = self.pool.workers.get(worker)
        if known is not None and known.incarnation == incarnation and not known.ended:
            self.notes.lost[worker] = (incarnation, reason[:256])

    def close_unreceived(self, token: str) -> None:
        """The worker never got this attempt (W4): close it in the next wave."""
        attempt = self.pool.open.get(token)
        if attempt is not None and not attempt.orphaned and token not in self.notes.ruled:
            self.notes.ruled.add(token)
            desk = self.work.desks.get(attempt.worker)
            if desk is not None:
                desk.release(token)
            self.notes.closing.append((attempt, Cause.NEVER_RECEIVED))

    def kill(self, token: str) -> None:
        """Ask the worker to end an attempt that ran past its limit (A7)."""
        attempt = self.pool.open.get(token)
        if attempt is not None:
            self.notes.stop(attempt)

    # -- decisions ---------------------------------------------------------------------------------
    def decide(self, now: float) -> Wave:
        """The next wave, possibly empty. It counts as said: send it until acknowledged or
        deposed."""
        self.notes.ring(now)
        rulings: Rulings = {}
        to_worker: dict[str, list[Event]] = {}
        self._rule_tasks(rulings)
        self._rule_losses(rulings)
        self._rule_runs(rulings)
        self._settle_runs(rulings)
        letters, homeless = self.work.assign(
            self.notes.lost.keys() | {a.worker for a, _ in self.notes.revoke.values()}
        )
        for lane in homeless:
            self._watch_capacity(lane, now)
        if not letters:
            for attempt in self.work.spare():
                self.notes.revoke.setdefault(attempt.token, (attempt, "steal"))
        self._rule_workers(to_worker)
        wave: Wave = [
            (self.subjects.ruling(run), events) for run, events in rulings.items() if events
        ]
        wave += [(self.subjects.to_worker(name), events) for name, events in to_worker.items()]
        wave += [(self.subjects.assign(x.hardware, name), x.events) for name, x in letters.items()]
        return wave

    def _rule_tasks(self, rulings: Rulings) -> None:
        finished, self.notes.finished = self.notes.finished, []
        for task in finished:
            finish = task.finish
            if finish is None or task.settled:
                continue
            bucket = rulings.setdefault(task.run.id, [])
            if len(bucket) >= RULINGS_A_MESSAGE_MAX:
                self.notes.finished.append(task)
            else:
                bucket.append(policy.after_finish(task, finish, self.term))
        returned, self.notes.returned = self.notes.returned, []
        for task in returned:
            ruling = None if task.settled or task.open else policy.after_return(task, self.term)
            if ruling is not None:
                rulings.setdefault(task.run.id, []).append(ruling)

    def _rule_losses(self, rulings: Rulings) -> None:
        closing, self.notes.closing = self.notes.closing, []
        for attempt, cause in closing:
            task = attempt.task
            if attempt.token in self.pool.open and task.finish is None and not task.run.settled:
                rulings.setdefault(task.run.id, []).append(
                    policy.after_loss(task, attempt, cause, self.term)
                )
            else:
                self.notes.ruled.discard(attempt.token)

    def _rule_runs(self, rulings: Rulings) -> None:
        for run in self.notes.invalid.values():
            if not (run.closed or run.settled):
                rejected = e.SubmissionRejected(term=self.term, reason=run.invalid, fatal=True)
                rulings.setdefault(run.id, []).append(rejected)
        self.notes.invalid.clear()
        for run in self.notes.cancelled.values():
            self._cancel_run(run, rulings)
        self.notes.cancelled.clear()
        tasks, self.notes.cancelled_tasks = self.notes.cancelled_tasks, []
        for run, name in tasks:
            self._cancel_task(run, name, rulings)
        limits, self.notes.over_limit = self.notes.over_limit, []
        for run, group in limits:
            self._settle_waiting(
                run,
                group,
                Verdict.TIMED_OUT,
                Cause.QUEUE_LIMIT,
                "waited past its queue limit",
                rulings,
            )
        lanes, self.notes.homeless = self.notes.homeless, []
        for lane in lanes:
            self._no_capacity(lane, rulings)

    def _settle_runs(self, rulings: Rulings) -> None:
        for name, run in list(self.notes.complete.items()):
            if name not in rulings:  # never in one wave with the last TaskSettled (F13)
                del self.notes.complete[name]
                if not run.settled:
                    rulings[name] = [policy.settle_run(run, self.term)]
        replies, self.notes.replies = self.notes.replies, []
        for name, reply in replies:
            rulings.setdefault(name, []).append(reply)

    def _cancel_run(self, run: Run, rulings: Rulings) -> None:
        if run.settled:
            return
        if not (run.closed or run.streams) or run.settled_tasks >= run.size:
            self.notes.complete[run.id] = run
            return
        for group in run.groups.values():
            self._settle_waiting(run, group, Verdict.CANCELLED, Cause.CANCELLED, "", rulings)
        for task in run.tasks.values():
            for attempt in task.open:
                self.notes.stop(attempt)

    def _cancel_task(self, run: Run, name: str, rulings: Rulings) -> None:
        found = run.find(name)
        if run.settled or found is None or found[0].verdicts[found[1]]:
            return
        task = run.tasks.get(name)
        if task is not None and (task.open or task.finish is not None):
            for attempt in task.open:
                self.notes.stop(attempt)
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
                    self.notes.homeless.append(lane)

            self.notes.after(now, int(CAPACITY_GRACE_S * 1000), expire)

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
        for name, (incarnation, reason) in self.notes.lost.items():
            to_worker[name] = [e.WorkerLost(term=self.term, incarnation=incarnation, reason=reason)]
            if name in self.work.desks:
                self.work.desks[name].open_for_work = False
        self.notes.lost.clear()
        for token, (attempt, mode) in self.notes.revoke.items():
            if token in self.pool.open and not attempt.orphaned:
                revoked = e.AttemptRevoked(
                    term=self.term,
                    run=attempt.task.run.id,
                    token=token,
                    mode="steal" if mode == "steal" else "cancel",
                )
                to_worker.setdefault(attempt.worker, []).append(revoked)
        self.notes.revoke.clear()
