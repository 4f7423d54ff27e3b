"""The protocol once more, small and slow, to judge the judge. Rule: shares no code with the fold;
what the fold counted is checked against the words of `protocol.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from dtf.core import events as e
from dtf.core.fold import Judged
from dtf.core.ids import run_id
from dtf.core.state import Pool

from .workers import Bench

GOOD = ("passed", "skipped")
LATE = (e.AttemptReturned, e.AttemptFinished)


class Broken(Exception):
    """A promise does not hold. `rule` names it, in few words that stay the same over seeds."""

    def __init__(self, rule: str, detail: object = "") -> None:
        self.rule = rule
        super().__init__(f"{rule}: {detail}" if detail != "" else rule)


class Seen:
    """An attempt as the log tells it."""

    def __init__(self, event: e.TaskAssigned, worker: str, at: int) -> None:
        self.token, self.run, self.worker, self.at = event.token, event.run, worker, at
        self.task, number, self.term, _ = event.token.split(".")
        self.number = int(number)
        self.incarnation = event.incarnation
        self.n = 0
        self.started = False
        self.open = True
        self.orphan = False
        self.kept = False
        self.revoked = ""
        self.finish: tuple[tuple[int, int], str, str] | None = None
        """((sequence, index), verdict, cause) once it finished."""


class RunSeen:
    """A run as the log tells it."""

    def __init__(self, publisher: str) -> None:
        self.publisher = publisher
        self.sizes: dict[str, int] = {}
        self.settled: dict[str, str] = {}
        """Task -> verdict."""
        self.pending: dict[str, Seen] = {}
        """Task -> the finish that awaits a ruling."""
        self.tries: Counter[str] = Counter()
        self.cancel_at = 0
        self.cancel_tasks: dict[str, int] = {}
        self.verdict = ""
        self.streamed = False
        self.submitted = False
        self.opened_s = self.grown_s = 0.0
        """When its first and its last message came, by no clock that jumps."""

    @property
    def tasks(self) -> int:
        return sum(self.sizes.values())


class Oracle:
    """Hears every message with the fold's judgement; raises `Broken`."""

    def __init__(
        self, pool: Pool, bench: Bench, saw: Callable[[str], None], now: Callable[[], float],
        incomplete_s: float,
    ) -> None:  # fmt: skip
        self.pool = pool
        self.now = now
        self.incomplete_s = incomplete_s
        self.bench = bench
        self.saw = saw
        """Told of rare things."""
        self.term = 0
        self.attempts: dict[str, Seen] = {}
        self.runs: dict[str, RunSeen] = {}
        self.incarnations: dict[str, list[str]] = {}
        self.over: set[str] = set()
        """Incarnations that ended."""
        self.copies: Counter[bytes] = Counter()

    def hear(self, judged: Judged) -> None:
        """Check one message."""
        message, subject = judged.message, judged.subject
        self.copies[message.data] += 1
        if self.copies[message.data] == 2 and len(message.data) > 60:
            self.saw("a message stored twice")
            if all(judged.voids[: len(judged.events)]):
                self.saw("a second copy was void")
        kinds = {type(event) for event in judged.events}
        if e.RunSettled in kinds and kinds & {e.TaskSettled, e.RangeSettled}:
            raise Broken("F13: a run is settled in a later wave than its last task")
        for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
            if message.headers and not void:
                raise Broken("F5: a message of the server itself counts", event)
            if void == "fold_error":
                raise Broken("F3: a step of the fold raised")
            if subject is None or void:
                self._check_void(event, void, subject)
                continue
            term = getattr(event, "term", None)
            if term is not None and type(event) is not e.LeaderElected and term != self.term:
                raise Broken("L3: an event of another term counts", event)
            check = getattr(self, f"_{type(event).__name__}", None)
            if check is not None:
                check(event, subject, (message.sequence, index))
        if subject is not None and subject.run in self.runs:
            self._check_run(subject.run)

    # -- what does not count -----------------------------------------------------------------------
    def _check_void(self, event: Any, void: str, subject: Any) -> None:
        if isinstance(event, e.LeaderElected):
            if event.term == self.term + 1 and void == "term":
                raise Broken("L1: the next term was not elected", event)
            self.saw("a void claim to lead")
        elif isinstance(event, e.TaskSettled) and void != "forged":
            run = self.runs.get(subject.run)
            if event.term == self.term and run is not None and not run.verdict:
                known = event.task.rpartition("-")[0] in run.sizes
                if known and event.task not in run.settled:
                    raise Broken("A3: a settling of the current term is void", (event, void))
        elif isinstance(event, e.TaskAssigned) and void == "incarnation":
            self.saw("an assignment to a former incarnation")
        elif isinstance(event, (e.AttemptFinished, e.AttemptStarted)) and void == "attempt_closed":
            seen = self.attempts.get(event.token)
            if seen is not None and seen.finish is None and isinstance(event, e.AttemptFinished):
                self.saw("a zombie's result was void")
        if void == "term" and type(event) is not e.LeaderElected:
            if event.term == self.term:
                raise Broken("L3: an event of the current term is void by its term", event)
            self.saw("a deposed leader wrote")

    # -- leaders and workers -----------------------------------------------------------------------
    def _LeaderElected(self, event: e.LeaderElected, subject: Any, at: Any) -> None:
        if event.term != self.term + 1:
            raise Broken("L1: a term follows the last one", event)
        self.term = event.term
        if event.term > 1:
            self.saw("a takeover")
            if any(seen.open for seen in self.attempts.values()):
                self.saw("a takeover with attempts open")
            if any(run.pending for run in self.runs.values()):
                self.saw("a takeover with a finish not ruled on")

    def _WorkerJoined(self, event: e.WorkerJoined, subject: Any, at: Any) -> None:
        known = self.incarnations.setdefault(subject.owner, [])
        if event.incarnation in known:
            raise Broken("W1: an old incarnation joined again", event)
        if known:
            self.over.add(known[-1])
            held = {each.token for each in event.held}
            for seen in self.attempts.values():
                if seen.open and seen.worker == subject.owner:
                    if seen.token in held:
                        seen.incarnation, seen.orphan = event.incarnation, False
                    else:
                        self._orphan(seen)
        known.append(event.incarnation)

    def _ended(self, worker: str, incarnation: str) -> None:
        known = self.incarnations.get(worker) or [""]
        if known[-1] != incarnation or incarnation in self.over:
            raise Broken("W1: only the living incarnation ends", (worker, incarnation))
        self.over.add(incarnation)
        for seen in self.attempts.values():
            if seen.open and seen.incarnation == incarnation:
                self._orphan(seen)
                self.saw("a worker was gone with work in its hands")

    def _orphan(self, seen: Seen) -> None:
        """Nothing is reserved any more; of a settled task, nothing is left to rule upon either."""
        run = self.runs[seen.run]
        seen.orphan = True
        if run.verdict or seen.task in run.settled:
            seen.open = False

    def _WorkerLeft(self, event: e.WorkerLeft, subject: Any, at: Any) -> None:
        self._ended(subject.owner, event.incarnation)

    def _WorkerLost(self, event: e.WorkerLost, subject: Any, at: Any) -> None:
        self.saw("a worker was declared lost")
        self._ended(subject.owner, event.incarnation)

    # -- submissions -------------------------------------------------------------------------------
    def _owned(self, subject: Any) -> RunSeen:
        run = self.runs.get(subject.run)
        if run is None or (run.publisher != subject.owner and not run.submitted):
            run = self.runs[subject.run] = RunSeen(subject.owner)
            run.opened_s = self.now()
        if run.publisher != subject.owner and subject.owner != "admin":
            raise Broken("S1: only the owner extends, seals or cancels a run", subject)
        run.grown_s = self.now()
        return run

    def _RunSubmitted(self, event: e.RunSubmitted, subject: Any, at: Any) -> None:
        if subject.run != run_id(subject.owner, event.key):
            raise Broken("S1: the run is named by publisher and key", subject)
        run = self._owned(subject)
        if run.submitted:
            raise Broken("S2: the same head twice is a duplicate", subject)
        run.submitted, run.streamed = True, event.streamed

    def _TasksSubmitted(self, event: e.TasksSubmitted, subject: Any, at: Any) -> None:
        run = self._owned(subject)
        if event.group in run.sizes:
            raise Broken("S2: the same part twice is a duplicate", event.group)
        run.sizes[event.group] = len(event.items) if event.items else event.count or 1

    def _RunSealed(self, event: e.RunSealed, subject: Any, at: Any) -> None:
        self._owned(subject)

    def _CancelRequested(self, event: e.CancelRequested, subject: Any, at: Any) -> None:
        run = self._owned(subject)
        if run.verdict:
            raise Broken("A8: a settled run was cancelled", subject)
        if event.task is None:
            run.cancel_at = run.cancel_at or at[0]
        elif event.task in run.settled:
            raise Broken("A8: a settled task was cancelled", event)
        else:
            run.cancel_tasks.setdefault(event.task, at[0])

    # -- attempts ----------------------------------------------------------------------------------
    def _TaskAssigned(self, event: e.TaskAssigned, subject: Any, at: Any) -> None:
        run, seen = self.runs[event.run], Seen(event, subject.owner, at[0])
        if event.token in self.attempts:
            raise Broken("A1: a token is given once", event.token)
        if self.incarnations[subject.owner][-1] != event.incarnation:
            raise Broken("A4: an assignment is for the current incarnation", event.token)
        if seen.number != run.tries[seen.task] + 1:
            raise Broken("A1: attempt = last + 1", event.token)
        if run.verdict or seen.task in run.settled:
            raise Broken("A3: a settled task was tried again", event.token)
        run.tries[seen.task] += 1
        if any(a.open and a.kept for a in self._of(run, seen)):
            self.saw("tried again while the original is kept open")
        seen.orphan = event.incarnation in self.over
        if seen.orphan:
            self.saw("an assignment to a worker that had gone")
        if run.cancel_at or seen.task in run.cancel_tasks:
            self.saw("an assignment crossed a cancel")
        self.attempts[event.token] = seen

    def _of(self, run: RunSeen, like: Seen) -> list[Seen]:
        return [a for a in self.attempts.values() if a.run == like.run and a.task == like.task]

    def _AttemptRevoked(self, event: e.AttemptRevoked, subject: Any, at: Any) -> None:
        seen = self.attempts[event.token]
        seen.revoked = event.mode
        self.saw(f"a {event.mode} was asked")
        if self.pool.open.get(event.token) is None:
            raise Broken("A5: a revocation is a request only", event.token)

    def _told(self, event: Any, subject: Any) -> Seen:
        seen = self.attempts.get(event.token)
        if seen is None or not seen.open:
            raise Broken("A3: only an open attempt is told of", event)
        if seen.worker != subject.owner or seen.run != subject.run:
            raise Broken("A1: only its worker tells of an attempt", event)
        if event.n != seen.n:
            raise Broken("A2: events of an attempt are numbered without a gap", event)
        seen.n += 1
        if seen.orphan:
            self.saw("a word from an attempt of a gone incarnation")
        return seen

    def _AttemptStarted(self, event: e.AttemptStarted, subject: Any, at: Any) -> None:
        seen = self._told(event, subject)
        seen.started = True
        if seen.revoked == "steal":
            self.saw("a steal came after the start")

    def _CasesReported(self, event: e.CasesReported, subject: Any, at: Any) -> None:
        self._told(event, subject)

    def _AttemptReturned(self, event: e.AttemptReturned, subject: Any, at: Any) -> None:
        seen = self._told(event, subject)
        if seen.started or event.token in self.bench.begun:
            raise Broken("A5: only what has not started is given back", event)
        seen.open = False
        self.saw("an attempt was given back")

    def _AttemptFinished(self, event: e.AttemptFinished, subject: Any, at: Any) -> None:
        seen = self._told(event, subject)
        truth = self.bench.ends.get(event.token, ("cancelled", "cancelled"))
        if (event.verdict.value, event.cause.value) != truth:
            raise Broken("a finish says what really happened", (event.token, truth))
        seen.open = False
        seen.finish = (at, event.verdict.value, event.cause.value)
        run = self.runs[seen.run]
        if seen.kept:
            self.saw("the finish of an attempt kept open")
        if seen.task not in run.settled:
            if seen.task not in run.pending:
                run.pending[seen.task] = seen
            if self._cancelled_at(run, seen.task):
                self.saw("a finish after the cancel")
        else:
            self.saw("a finish after its task was settled")

    # -- rulings -----------------------------------------------------------------------------------
    def _cancelled_at(self, run: RunSeen, task: str) -> int:
        asked = [at for at in (run.cancel_at, run.cancel_tasks.get(task, 0)) if at]
        return min(asked, default=0)

    def _ruled(self, subject: Any) -> RunSeen:
        run = self.runs[subject.run]
        if run.verdict:
            raise Broken("F13: nothing is ruled after the run is settled", subject)
        return run

    def _TaskRequeued(self, event: e.TaskRequeued, subject: Any, at: Any) -> None:
        run, seen = self._ruled(subject), self.attempts[event.token]
        pending = run.pending.get(seen.task)
        if pending is seen:
            if event.cause.value in ("worker_lost", "never_received"):
                raise Broken("A3: a finish that landed first wins", event)
            del run.pending[seen.task]
        elif not seen.open:
            raise Broken("A3: only an open attempt or its finish is put back", event)
        if event.keep_open and seen.task not in run.settled:
            seen.kept = seen.open
            return
        seen.open = False
        if event.token in self.pool.open:
            raise Broken("A3: a requeue closes the attempt", event)
        if event.cause.value == "never_received":
            self.saw("an attempt was never received")

    def _TaskSettled(self, event: e.TaskSettled, subject: Any, at: Any) -> None:
        run = self._ruled(subject)
        if event.task in run.settled:
            raise Broken("A3: a task settles at most once", event)
        self._check_settling(run, event)
        run.settled[event.task] = event.verdict.value
        run.pending.pop(event.task, None)
        run.cancel_tasks.pop(event.task, None)
        for seen in self.attempts.values():
            if seen.open and seen.run == subject.run and seen.task == event.task:
                if seen.orphan or (event.at is None and seen.token == event.token):
                    seen.open = False
                else:
                    self.saw("a task was settled with an attempt still open")

    def _check_settling(self, run: RunSeen, event: e.TaskSettled) -> None:
        pending, asked = run.pending.get(event.task), self._cancelled_at(run, event.task)
        if pending is None or pending.finish is None:
            if event.at is not None:
                raise Broken("A3: a settling names the accepted finish", event)
            return
        at, verdict, _ = pending.finish
        if event.at != at or event.token != pending.token:
            raise Broken("A3: a finish that landed first is the one that counts", event)
        if asked and at[0] > asked:
            if event.verdict != "cancelled":
                raise Broken("A8: a cancel beats a finish that lands after it", event)
        elif event.verdict.value != verdict:
            raise Broken("A8: a finish that landed before the cancel wins", event)

    def _RangeSettled(self, event: e.RangeSettled, subject: Any, at: Any) -> None:
        run = self._ruled(subject)
        busy = {a.task for a in self.attempts.values() if a.open and a.run == subject.run}
        busy |= run.pending.keys()
        for index in range(event.start, event.stop):
            task = f"{event.group}-{index}"
            if task not in busy and task not in run.settled:
                run.settled[task] = event.verdict.value
                run.cancel_tasks.pop(task, None)
        if busy & {f"{event.group}-{i}" for i in range(event.start, event.stop)}:
            self.saw("a range was settled around busy tasks")

    def _RunSettled(self, event: e.RunSettled, subject: Any, at: Any) -> None:
        run = self._ruled(subject)
        whole = event.verdict not in ("incomplete", "cancelled") or run.streamed
        if whole and len(run.settled) < run.tasks:
            raise Broken("F13: a run settles after its last task", event)
        if dict(Counter(run.settled.values())) != event.counts:
            raise Broken("F13: the counts of a run are those of its tasks", event)
        good = all(verdict in GOOD for verdict in run.settled.values())
        expected = {"incomplete", "empty" if not run.tasks else "passed" if good else "failed"}
        if run.cancel_at:  # it may have landed when this ruling was on its way
            expected.add("cancelled")
        if event.verdict not in expected:
            raise Broken("a run's verdict follows from its tasks", event)
        since = run.grown_s if run.streamed else run.opened_s
        if event.verdict == "incomplete" and self.now() - since < self.incomplete_s - 0.1:
            raise Broken("S2: a run is given time to become complete", event)
        run.verdict = event.verdict
        self.saw(f"a run ended as {event.verdict}")
        if run.streamed:
            self.saw(f"a streamed run ended as {event.verdict}")

    def _SubmissionRejected(self, event: e.SubmissionRejected, subject: Any, at: Any) -> None:
        if event.fatal and subject.run in self.runs:
            self.runs[subject.run].verdict = "rejected"
            self.saw("a run was rejected")

    def _check_run(self, name: str) -> None:
        run, known = self.runs[name], self.pool.runs[name]
        if known.settled in ("replaced",):
            return
        if known.settled_tasks != len(run.settled):
            raise Broken("the counts of a run are its tasks", (name, run.settled, known.counts))
