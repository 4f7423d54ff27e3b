"""What will be asked of the pool, and what will go wrong. Rule: a list of steps made from the seed
alone; any of them may be left out, and the rest still happens.

Steps at a time: `at` is in virtual seconds. Steps at an event: `at` is the number of the message
the node sends (or reads), over all its lives.
"""

from __future__ import annotations

import random
from typing import NamedTuple

COORDINATORS = ("c0", "c1", "c2")
WORKERS = ("w0", "w1", "w2")
PUBLISHERS = ("p0", "p1")
PROJECTOR = "j0"
FAULTS_S = 22.0
"""Faults happen before this; then everything is healed."""
SENT = ("drop", "lose_ack", "late", "twice", "refuse", "die_before", "die_after")
"""Fates of the n-th message a node sends."""


READ = ("die_reading", "miss")
"""What becomes of a node at the n-th batch of messages it reads. An agent misses the assignments in
it when it cannot decode them: W4 is the cure."""


class Step(NamedTuple):
    """One thing that is done to the pool, or asked of it."""

    kind: str
    target: str
    at: float
    value: float = 0.0
    text: str = ""

    def __str__(self) -> str:
        when = f"message {int(self.at)}" if self.kind in (*SENT, *READ) else f"{self.at:.2f} s"
        more = f" {self.text}" if self.text else ""
        return f"{when}: {self.kind} {self.target}{more}" + (
            f" ({self.value:g})" if self.value else ""
        )


class Plan(NamedTuple):
    """A whole story before it happens."""

    seed: int
    coordinators: int
    dedup: bool
    """Whether the broker knows message ids again; correctness may not need it (F6)."""
    hints: str
    """DISCONNECT hints: `soon`, `late` or `never`."""
    keep: bool
    """Lost attempts are left open: the first finish counts (A3)."""
    steps: tuple[Step, ...]


JOBS = {
    "quick": 6, "short": 3, "long": 2, "gpu": 3, "pair": 1, "flaky": 2, "fails": 1, "hang": 1,
    "rude": 1, "nowhere": 1, "queued": 1,
}  # fmt: skip
"""Kinds of groups and how often they are asked for; see `workload.py`."""
MOST = {"quick": 30, "rude": 2}
"""Most tasks of a group; six where nothing is said."""


def make_plan(seed: int) -> Plan:
    """The story of this seed."""
    rng = random.Random(seed)
    steps = [*_work(rng), *(_faults(rng) if rng.random() < 0.92 else ())]
    return Plan(
        seed=seed,
        coordinators=rng.choice((2, 2, 3)),
        dedup=rng.random() < 0.5,
        hints=rng.choice(("soon", "late", "never")),
        keep=rng.random() < 0.25,
        steps=tuple(sorted(steps, key=lambda step: (step.kind in (*SENT, *READ), step.at))),
    )


def _jobs(rng: random.Random, most: int) -> str:
    kinds = rng.choices(list(JOBS), list(JOBS.values()), k=rng.randint(1, most))
    return " ".join(f"{kind}:{rng.randint(1, MOST.get(kind, 6))}" for kind in kinds)


def _work(rng: random.Random) -> list[Step]:
    steps: list[Step] = []
    for number in range(rng.randint(3, 7)):
        at, publisher = rng.uniform(0, FAULTS_S * 0.8), rng.choice(PUBLISHERS)
        key = f"k{number}"
        way = rng.choices(("submit", "parts", "stream", "empty", "invalid"), (10, 4, 5, 1, 1))[0]
        jobs = "" if way == "empty" else _jobs(rng, 3)
        steps.append(Step(way, publisher, at, rng.random(), f"{key} {jobs}"))
        if rng.random() < 0.35:
            what = rng.choice(("run", "run", "task"))
            later = at + rng.choice((0.01, rng.uniform(0, 3), rng.uniform(0, 8)))
            steps.append(Step("cancel", publisher, later, rng.random(), f"{key} {what}"))
        if rng.random() < 0.15:
            steps.append(Step("again", publisher, at + rng.uniform(0, 6), 0, f"{key} {jobs}"))
        if rng.random() < 0.1:
            other = next(p for p in PUBLISHERS if p != publisher)
            steps.append(Step("meddle", other, at + rng.uniform(0, 4), 0, f"{publisher} {key}"))
    for _ in range(rng.choice((0, 0, 1, 2))):
        worker, at = rng.choice(WORKERS), rng.uniform(0, FAULTS_S)
        steps.append(Step("drain", worker, at))
        steps.append(Step("undrain", worker, min(FAULTS_S, at + rng.uniform(0.5, 6))))
    return steps


def _faults(rng: random.Random) -> list[Step]:
    steps: list[Step] = []
    nodes = (*COORDINATORS, *WORKERS, *PUBLISHERS, PROJECTOR)
    weights = (6, 6, 2, 4, 4, 4, 1, 1, 1)
    for _ in range(rng.randint(1, 9)):
        kind = rng.choices(
            ("crash", "stop", "cut", "reconnect", "server", "clock", "slow", "hint", "forget_lease",
             "forge", "retire"),
            (7, 8, 5, 1, 2, 2, 3, 2, 2, 2, 2),
        )[0]  # fmt: skip
        node = rng.choices(nodes, weights)[0]
        at = rng.uniform(0.5, FAULTS_S)
        if kind == "server":
            steps.append(Step(kind, "server", at, rng.choice((0.2, 1.0, 4.0))))
        elif kind == "clock":
            steps.append(Step(kind, "server", at, rng.choice((-300.0, -5.0, -1.0, 3.0, 300.0))))
        elif kind in ("forget_lease", "forge"):
            steps.append(Step(kind, "server", at, rng.random()))
        elif kind in ("hint", "retire"):
            steps.append(Step(kind, rng.choice(WORKERS), at, rng.random()))
        elif kind == "slow":
            steps.append(Step(kind, node, at, rng.choice((0.3, 2.0, 6.0))))
        else:
            steps.append(Step(kind, node, at, rng.choice((0.3, 2.0, 4.5, 6.0, 9.0))))
    for _ in range(rng.randint(0, 10)):
        node = rng.choices(nodes[:-1], weights[:-1])[0]
        kind = rng.choices(SENT, (3, 4, 4, 4, 1, 2, 3))[0]
        most = 60 if node[0] == "c" else 80 if node[0] == "w" else 12
        steps.append(Step(kind, node, rng.randint(0, most), rng.choice((0.5, 3.0, 5.0, 8.0))))
    for _ in range(rng.choice((0, 0, 1, 2))):
        steps.append(Step("die_reading", rng.choice(nodes), rng.randint(1, 80)))
    if rng.random() < 0.2:
        steps.append(Step("miss", rng.choice(WORKERS), rng.randint(2, 25)))
    return steps
