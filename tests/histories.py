"""Random histories for the fold: plausible enough to reach its corners, hostile enough to be rude.

Rule: one seed is one history. What could come next is read from the fold itself, so that most of
what is said counts; the rest is old, broken, stolen or invented.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from dtf.core import events as e
from dtf.core.codec import encode_batch
from dtf.core.ids import attempt_token, run_id, task_id
from dtf.core.model import Axis, Cause, Held, TaskSpec, Verdict
from dtf.core.state import Attempt, Group, Run
from msgspec import Raw
from worlds import SPEC, World, finished, joined

WORKERS = ("w", "v", "u")
PUBLISHERS = ("me", "you", "admin")
RUN_VERDICTS = ("passed", "failed", "incomplete", "empty", "cancelled")


class History:
    """A world that grows by random messages."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World()
        self.keys = 0

    def grow(self, steps: int) -> World:
        """The world after so many more messages."""
        for _ in range(steps):
            self.rng.choice(MOVES)(self)
        return self.world

    # -- picking -----------------------------------------------------------------------------------
    def pick(self, things: Any) -> Any:
        things = list(things)
        return self.rng.choice(things) if things else None

    def chance(self, part: float) -> bool:
        return self.rng.random() < part

    def run(self) -> Run | None:
        return self.pick(self.world.pool.runs.values())

    def term(self) -> int:
        term = self.world.pool.term
        return term if self.chance(0.95) else max(0, term + self.rng.choice([-1, 1]))

    def attempts(self, worker: str) -> list[Attempt]:
        return [a for a in self.world.pool.open.values() if a.worker == worker]

    def tasks(self, run: Run) -> list[tuple[Group, int]]:
        return [(group, index) for group in run.groups.values() for index in range(group.size)]

    def say(self, subject: str, events: list[e.Event]) -> None:
        if events:
            self.world.put(subject, encode_batch(events))

    # -- leader and workers ------------------------------------------------------------------------
    def elect(self) -> None:
        term = self.world.pool.term + self.rng.choice([1, 1, 1, 0, 2])
        self.say(
            "leader", [e.LeaderElected(term=term, coordinator="c", nonce=f"n{len(self.world.log)}")]
        )

    def join(self) -> None:
        name = self.pick(WORKERS)
        known = self.world.pool.workers.get(name)
        incarnation = f"i{len(self.world.log)}"
        if known is not None and self.chance(0.2):
            incarnation = self.pick([known.incarnation, *known.past])
        open_attempts = list(self.world.pool.open.values())
        some = self.rng.sample(open_attempts, self.rng.randint(0, len(open_attempts)))
        held = [Held(run=a.task.run.id, token=a.token) for a in some]
        self.say(f"worker.{name}", [joined(incarnation, held=held)])

    def end_worker(self) -> None:
        name = self.pick(WORKERS)
        known = self.world.pool.workers.get(name)
        incarnation = known.incarnation if known is not None and self.chance(0.9) else "i0"
        kind = self.pick([e.WorkerLeft, e.WorkerDraining, e.WorkerLost])
        if kind is e.WorkerLost:
            self.say(f"assign._.{name}", [kind(term=self.term(), incarnation=incarnation)])
        else:
            self.say(f"worker.{name}", [kind(incarnation=incarnation)])

    def operate(self) -> None:
        drain = e.DrainRequested(worker=self.pick(WORKERS), drain=self.chance(0.5))
        admins = e.PoolConfigured(admins=self.pick([["admin"], ["admin", "you"], []]))
        self.say("pool", [self.pick([drain, admins])])

    # -- publishers --------------------------------------------------------------------------------
    def submit(self) -> None:
        """A run, in one message or in many, in any order, sometimes with something wrong."""
        publisher = self.pick(PUBLISHERS)
        self.keys += self.chance(0.8)
        key = f"k{self.keys}"
        groups = [self.group(part) for part in range(self.rng.randint(0, 3))]
        tasks = sum(Group(group).size for group in groups)
        sealed = e.RunSealed(parts=len(groups), tasks=tasks + self.chance(0.1))
        events: list[e.Event] = [e.RunSubmitted(key=key), *groups, sealed]
        if self.chance(0.3):
            self.rng.shuffle(events)
        if self.chance(0.1):
            events.pop(self.rng.randrange(len(events)))
        if self.chance(0.1) and groups:
            events.append(e.TasksSubmitted(part=9, group=groups[0].group, spec=SPEC))
        owner = publisher if self.chance(0.9) else self.pick(PUBLISHERS)
        subject = f"run.{publisher}.{run_id(owner, key)}"
        if self.chance(0.6):
            self.say(subject, events)
        else:
            for event in events:
                self.say(subject, [event])

    def group(self, part: int) -> e.TasksSubmitted:
        shape: dict[str, Any] = self.pick(
            [
                {"count": self.rng.randint(1, 5)},
                {"items": [Raw(b'{"i":%d}' % index) for index in range(self.rng.randint(1, 5))]},
                {"axes": [Axis(name="a", values=[Raw(b"1"), Raw(b'"x"')])]},
                {},
            ]
        )
        spec = SPEC if self.chance(0.95) else TaskSpec(command=[])
        return e.TasksSubmitted(part=part, group=f"g{part}", spec=spec, **shape)

    def cancel(self) -> None:
        run = self.run()
        if run is not None:
            task = self.pick([task_id(group.name, index) for group, index in self.tasks(run)])
            publisher = run.publisher if self.chance(0.8) else self.pick(PUBLISHERS)
            event = e.CancelRequested(task=task if self.chance(0.8) else None)
            self.say(f"run.{publisher}.{run.id}", [event])

    # -- attempts ----------------------------------------------------------------------------------
    def assign(self) -> None:
        """Waiting tasks to one worker; sometimes one that does not wait."""
        pool, name = self.world.pool, self.pick(WORKERS)
        worker = pool.workers.get(name)
        events: list[e.Event] = []
        named: set[str] = set()
        for _ in range(self.rng.randint(1, 6)):
            run = self.run()
            chosen = self.pick(self.tasks(run)) if run is not None else None
            if run is None or chosen is None or worker is None:
                continue
            task = task_id(chosen[0].name, chosen[1])
            active = run.tasks.get(task)
            if task in named and self.chance(0.9):
                continue
            if active is not None and not active.waiting and self.chance(0.9):
                continue
            named.add(task)
            number = (active.tries if active is not None else 0) + (1 if self.chance(0.95) else 2)
            nonce = f"x{len(self.world.log)}y{len(events)}"
            token = attempt_token(task, number, pool.term, nonce)
            incarnation = worker.incarnation if self.chance(0.95) else "i0"
            event = e.TaskAssigned(
                term=self.term(), run=run.id, token=token, incarnation=incarnation
            )
            events.append(event)
        self.say(f"assign.cpu.{name}", events)

    def revoke(self) -> None:
        attempt = self.pick(self.world.pool.open.values())
        if attempt is not None:
            mode = self.pick(["steal", "cancel"])
            run = attempt.task.run.id
            event = e.AttemptRevoked(term=self.term(), run=run, token=attempt.token, mode=mode)
            self.say(f"assign._.{attempt.worker}", [event])

    def work(self) -> None:
        """Events of one worker's attempts of one run, in one message."""
        name = self.pick(WORKERS)
        mine = self.attempts(name)
        first = self.pick(mine)
        if first is None:
            return
        events: list[e.Event] = []
        for attempt in mine:
            if attempt.task.run is first.task.run and self.chance(0.7):
                events += self.told(attempt)
        teller = name if self.chance(0.95) else self.pick(WORKERS)
        self.say(f"attempt.{teller}.{first.task.run.id}", events)

    def told(self, attempt: Attempt) -> list[e.Event]:
        n, token = attempt.next_n, attempt.token
        if self.chance(0.05):
            n += self.rng.choice([-1, 1, 7])
            n = max(n, 0)
        if self.chance(0.1 if attempt.started else 0.3):
            return [e.AttemptReturned(token=token, n=n)]
        events: list[e.Event] = []
        if not attempt.started and self.chance(0.5):
            events.append(e.AttemptStarted(token=token, n=n))
        if self.chance(0.3):
            events.append(e.CasesReported(token=token, n=n + len(events)))
        if self.chance(0.7):
            verdict = self.pick([Verdict.PASSED, Verdict.PASSED, Verdict.FAILED])
            more = {"verdict": verdict, "duration_us": self.rng.randint(0, 10**6)}
            events.append(finished(token, n=n + len(events), **more))
        return events

    # -- rulings -----------------------------------------------------------------------------------
    def rule(self) -> None:
        """Rulings on tasks of one run."""
        run = self.run()
        if run is None:
            return
        events: list[e.Event] = []
        for task in list(run.tasks.values()):
            if self.chance(0.3):
                continue
            token = task.finish.token if task.finish is not None else ""
            if task.open and (not token or self.chance(0.3)):
                token = self.pick(task.open).token
            if token and self.chance(0.4):
                cause = self.pick([Cause.TEST, Cause.WORKER_LOST, Cause.NEVER_RECEIVED])
                keep = self.chance(0.2)
                ruling: e.Event = e.TaskRequeued(
                    term=self.term(), token=token, cause=cause, keep_open=keep
                )
            else:
                verdict = self.pick([Verdict.PASSED, Verdict.FAILED, Verdict.ERROR])
                at = (1, 0) if self.chance(0.5) else None
                ruling = e.TaskSettled(
                    term=self.term(), task=task.id, verdict=verdict, token=token or None, at=at
                )
            events.append(ruling)
        self.say(f"ruling.{run.id}", events)

    def settle_range(self) -> None:
        run = self.run()
        group = self.pick(run.groups.values()) if run is not None else None
        if run is not None and group is not None:
            start = self.rng.randint(0, group.size)
            stop = self.rng.randint(start, group.size + self.chance(0.1))
            verdict, cause = Verdict.NO_CAPACITY, Cause.NO_CAPACITY
            event = e.RangeSettled(
                term=self.term(), group=group.name, start=start, stop=stop, verdict=verdict,
                cause=cause,
            )  # fmt: skip
            self.say(f"ruling.{run.id}", [event])

    def end_run(self) -> None:
        run = self.run()
        if run is None:
            return
        counts: dict[str, int] = dict(run.counts) if self.chance(0.9) else {"passed": 99}
        if run.settled:
            event: e.Event = e.RunForgotten(term=self.term())
        elif run.invalid or self.chance(0.1):
            event = e.SubmissionRejected(term=self.term(), reason="no", fatal=self.chance(0.8))
        else:
            event = e.RunSettled(term=self.term(), verdict=self.pick(RUN_VERDICTS), counts=counts)
        self.say(f"ruling.{run.id}", [event] * self.pick([1, 1, 1, 2]))

    # -- malice and accidents ----------------------------------------------------------------------
    def repeat(self) -> None:
        stored = self.pick(self.world.log)
        self.world.put(stored.subject.removeprefix("dtf.main."), stored.data)

    def misplace(self) -> None:
        stored, other = self.pick(self.world.log), self.pick(self.world.log)
        self.world.put(other.subject.removeprefix("dtf.main."), stored.data)

    def corrupt(self) -> None:
        stored = self.pick(each for each in self.world.log if each.data)
        data = bytearray(stored.data)
        for _ in range(self.rng.randint(1, 3)):
            data[self.rng.randrange(len(data))] = self.rng.randrange(256)
        if self.chance(0.3):
            del data[self.rng.randrange(len(data)) :]
        self.world.put(stored.subject.removeprefix("dtf.main."), bytes(data))

    def garbage(self) -> None:
        stored = self.pick(self.world.log)
        data = self.pick([b"", b"[{}]", b"[" * 2000, b"null", self.rng.randbytes(50), b"[[[]]]"])
        headers = {"Nats-Sequence": "1"} if self.chance(0.2) else None
        subject = stored.subject.removeprefix("dtf.main.") + (".x" if self.chance(0.1) else "")
        self.world.put(subject, data, headers)


MOVES: list[Callable[[History], None]] = [
    History.elect, History.join, History.join, History.end_worker, History.operate,
    *[History.submit] * 4, History.cancel, *[History.assign] * 8, History.revoke,
    *[History.work] * 8, *[History.rule] * 5, History.settle_range, *[History.end_run] * 2,
    *[History.repeat] * 2, History.misplace, History.corrupt, History.garbage,
]  # fmt: skip
