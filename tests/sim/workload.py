"""What the tasks are and how they behave. Rule: how an attempt goes is a function of seed and
token."""

from __future__ import annotations

import random
from typing import NamedTuple

from dtf.core.model import Cause, Device, Requirement, TaskSpec, Verdict
from dtf.core.submit import GroupPlan
from dtf.worker.devices.detect import Detected

INLINE = {"runner": "python", "isolation": "none"}
SPECS: dict[str, TaskSpec] = {
    "quick": TaskSpec(target="m:quick", **INLINE),  # type: ignore[arg-type]
    "short": TaskSpec(command=["short"]),
    "long": TaskSpec(command=["long"], infra_retries=3),
    "gpu": TaskSpec(command=["gpu"], require=Requirement(hardware="cuda"), infra_retries=4),
    "pair": TaskSpec(command=["pair"], require=Requirement(hardware="cuda", devices=2)),
    "flaky": TaskSpec(command=["flaky"], retries=2),
    "fails": TaskSpec(command=["fails"]),
    "hang": TaskSpec(command=["hang"], wall_ms=1500, grace_ms=200),
    "rude": TaskSpec(command=["rude"], wall_ms=1500, grace_ms=200, infra_retries=1),
    "nowhere": TaskSpec(command=["nowhere"], require=Requirement(hardware="rocm")),
    "queued": TaskSpec(command=["long"], queue_ms=1500),
}


def groups_of(jobs: str) -> list[GroupPlan]:
    """The groups that a step asks for: "kind:count kind:count"."""
    found = []
    for number, job in enumerate(jobs.split()):
        kind, _, count = job.partition(":")
        found.append(GroupPlan(name=f"g{number}", spec=SPECS[kind], count=int(count)))
    return found


class Course(NamedTuple):
    """How one attempt will go."""

    seconds: float
    verdict: Verdict = Verdict.PASSED
    cause: Cause = Cause.DONE
    obeys: bool = True
    """It ends at its limit and when it is killed."""
    tells: bool = False
    """It reports a case in between."""


def course(seed: int, token: str, spec: TaskSpec) -> Course:
    """How the attempt goes, known before it begins."""
    rng = random.Random(f"{seed}/{token}")
    kind = spec.target or spec.command[0]
    tells = rng.random() < 0.3
    if kind == "m:quick":
        return Course(rng.uniform(0.002, 0.02))
    if kind in ("short", "flaky", "fails"):
        bad = kind == "fails" or (kind == "flaky" and rng.random() < 0.5)
        how = (Verdict.FAILED, Cause.TEST) if bad else (Verdict.PASSED, Cause.DONE)
        return Course(rng.uniform(0.02, 0.6), *how, tells=tells)
    if kind == "hang":
        return Course(1e9)
    if kind == "rude":
        return Course(1e9, obeys=False)
    return Course(rng.uniform(0.3, 2.5) * (2 if kind == "long" else 1), tells=tells)


def facts_of(worker: str) -> Detected:
    """What the machine of a worker has."""
    cores, devices = {"w0": (2000, 2), "w1": (1000, 1), "w2": (3000, 0)}[worker]
    cards = [Device(id=f"G{number}", hardware="cuda") for number in range(devices)]
    return Detected(cores, 2**33, cards, {})
