"""Worlds for tests of the fold: histories by hand, and random ones from a seed.

Rule: after every message the state agrees with itself, and void events have changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dtf.core import events as e
from dtf.core import invariants
from dtf.core.codec import encode_batch
from dtf.core.evolve import VOID_REASONS
from dtf.core.fold import Fold, Judged
from dtf.core.ids import attempt_token, run_id
from dtf.core.model import Cause, TaskSpec, Verdict
from dtf.core.ports import Message
from dtf.core.state import Attempt, Pool, Run, Task, canonical

POOL = "main"
SPEC = TaskSpec(runner="python", target="module:function")


def message(
    sequence: int, subject: str, data: bytes, headers: Mapping[str, str] | None = None
) -> Message:
    """A stored message of the pool; `subject` without its prefix, unless it starts with a dot."""
    whole = subject[1:] if subject.startswith(".") else f"dtf.{POOL}.{subject}"
    return Message(sequence, whole, data, sequence * 1_000_000, headers)


def facts(pool: Pool) -> dict[str, Any]:
    """The canonical state without what every message may change: its position and the counters.

    Also without `invalid`: a void part leaves this one mark on its writer's own open run.
    """
    state = canonical(pool)
    del state["sequence"], state["voids"]
    for run in state["runs"].values():
        del run["invalid"]
    return state


class World:
    """A log and its fold: pool created, term 1 elected, worker `w` with incarnation `i1` joined."""

    def __init__(self, *, bare: bool = False) -> None:
        self.fold = Fold(POOL)
        self.log: list[Message] = []
        self.judgements: dict[int, list[str]] = {}
        """Sequence -> why each event of the message is void ("" where it counts)."""
        if not bare:
            self.valid("pool", e.PoolCreated(uuid="u", name=POOL))
            self.elect()
            self.join("w", "i1")

    @property
    def pool(self) -> Pool:
        return self.fold.pool

    # -- saying ------------------------------------------------------------------------------------
    def put(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> Judged:
        """Store bytes and fold them; what is true of every state is true of this one."""
        stored = message(len(self.log) + 1, subject, data, headers)
        self.log.append(stored)
        before, counted = facts(self.pool), sum(self.pool.voids.values())
        judged = self.fold.apply(stored)
        voids = [void for _, void in zip(judged.events, judged.voids, strict=False)]
        self.judgements[stored.sequence] = voids
        assert self.pool.sequence == stored.sequence
        assert sum(self.pool.voids.values()) - counted == sum(1 for void in voids if void)
        if all(voids):
            assert facts(self.pool) == before, (subject, judged.events, voids)
        assert set(voids) - {""} <= VOID_REASONS
        invariants.check(self.pool, (subject, judged.events, voids))
        return judged

    def say(self, subject: str, *events: e.Event) -> list[str]:
        """Store the events as one message; why each is void ("" where it counts)."""
        judged = self.put(subject, encode_batch(events))
        return list(judged.voids[: len(judged.events)])

    def valid(self, subject: str, *events: e.Event) -> None:
        """All the events count."""
        assert self.say(subject, *events) == [""] * len(events)

    def void(self, reason: str, subject: str, *events: e.Event) -> None:
        """None of the events counts, for this reason."""
        assert self.say(subject, *events) == [reason] * len(events)

    # -- usual facts -------------------------------------------------------------------------------
    def elect(self, coordinator: str = "c") -> int:
        term = self.pool.term + 1
        self.valid("leader", e.LeaderElected(term=term, coordinator=coordinator, nonce=f"n{term}"))
        return term

    def join(self, worker: str, incarnation: str, **facts_: Any) -> None:
        self.valid(f"worker.{worker}", joined(incarnation, **facts_))

    def submit(self, key: str = "k", publisher: str = "me", **group: Any) -> str:
        """A run of one group `g` in one message; its id."""
        group = {"count": 3} | group if not {"items", "axes"} & group.keys() else group
        part = e.TasksSubmitted(part=0, group="g", spec=SPEC, **group)
        run = run_id(publisher, key)
        size = len(part.items) if part.items is not None else group.get("count") or 1
        submitted = e.RunSubmitted(key=key), part, e.RunSealed(parts=1, tasks=size)
        self.valid(f"run.{publisher}.{run}", *submitted)
        assert self.pool.runs[run].closed
        return run

    def assign(self, run: str, task: str = "g-0", worker: str = "w", **more: Any) -> str:
        """The next attempt of the task is assigned to the worker; its token."""
        token = self.next_token(run, task)
        self.valid(f"assign.cpu.{worker}", self.assignment(run, token, worker, **more))
        return token

    def next_token(self, run: str, task: str = "g-0") -> str:
        active = self.pool.runs[run].tasks.get(task)
        number = active.tries + 1 if active is not None else 1
        return attempt_token(task, number, self.pool.term, f"x{len(self.log)}")

    def assignment(self, run: str, token: str, worker: str = "w", **more: Any) -> e.TaskAssigned:
        incarnation = self.pool.workers[worker].incarnation
        whole = {"term": self.pool.term, "incarnation": incarnation} | more
        return e.TaskAssigned(run=run, token=token, **whole)

    def finish(self, run: str, token: str, worker: str = "w", **more: Any) -> tuple[int, int]:
        """The attempt finished; the position of that event."""
        self.valid(f"attempt.{worker}.{run}", finished(token, **more))
        return len(self.log), 0

    def settle(self, run: str, task: str = "g-0", **more: Any) -> None:
        self.valid(f"ruling.{run}", self.settlement(task, **more))

    def settlement(self, task: str = "g-0", **more: Any) -> e.TaskSettled:
        whole = {"term": self.pool.term, "verdict": Verdict.PASSED} | more
        return e.TaskSettled(task=task, **whole)

    def settle_all(self, run: str, verdict: str = "passed") -> None:
        """The rest of the run's tasks, then the run."""
        for group in list(self.pool.runs[run].groups.values()):
            for index in range(group.size):
                if not group.verdicts[index]:
                    self.settle(run, f"{group.name}-{index}")
        counts = dict(self.pool.runs[run].counts)
        ended = e.RunSettled(term=self.pool.term, verdict=verdict, counts=counts)  # type: ignore[arg-type]
        self.valid(f"ruling.{run}", ended)

    # -- looking -----------------------------------------------------------------------------------
    def run(self, run: str) -> Run:
        return self.pool.runs[run]

    def task(self, run: str, task: str = "g-0") -> Task:
        return self.pool.runs[run].tasks[task]

    def attempt(self, token: str) -> Attempt:
        return self.pool.open[token]


def joined(incarnation: str, **more: Any) -> e.WorkerJoined:
    whole = {"hardware": ["cpu"], "cpu_milli": 4000, "memory_bytes": 2**33} | more
    return e.WorkerJoined(incarnation=incarnation, **whole)


def finished(token: str, **more: Any) -> e.AttemptFinished:
    whole = {"verdict": Verdict.PASSED, "duration_us": 100} | more
    return e.AttemptFinished(token=token, **whole)


def requeued(
    term: int, token: str, cause: Cause = Cause.WORKER_LOST, **more: Any
) -> e.TaskRequeued:
    return e.TaskRequeued(term=term, token=token, cause=cause, **more)
