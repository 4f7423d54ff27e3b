"""Many seeds on all cores. Rule: a campaign passes when nothing broke and every rare state that the
simulator can reach was reached.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from . import twins
from .plan import Plan, make_plan
from .world import World

SOMETIMES = (
    "a takeover",
    "a takeover with attempts open",
    "a takeover with a finish not ruled on",
    "a leader was stopped",
    "a leader was stopped with a wave in flight",
    "a deposed leader wrote",
    "a void claim to lead",
    "a worker was declared lost",
    "a worker was gone with work in its hands",
    "a word from an attempt of a gone incarnation",
    "a zombie's result was void",
    "an assignment to a former incarnation",
    "an assignment to a worker that had gone",
    "an assignment crossed a cancel",
    "an attempt was given back",
    "an attempt was never received",
    "a steal was asked",
    "a steal came after the start",
    "a cancel was asked",
    "a finish after the cancel",
    "a finish after its task was settled",
    "a task was settled with an attempt still open",
    "a range was settled around busy tasks",
    "tried again while the original is kept open",
    "the finish of an attempt kept open",
    "a message stored twice",
    "a second copy was void",
    "a false hint",
    "a projector went on from its snapshot",
    "the publisher of a streamed run went silent",
    "a run was rejected",
    "a run ended as passed",
    "a run ended as failed",
    "a run ended as cancelled",
    "a run ended as empty",
    "a run ended as incomplete",
    "a streamed run ended as passed",
    "a streamed run ended as cancelled",
    "a streamed run ended as incomplete",
)
"""What a campaign of `CAMPAIGN` seeds or more must have seen."""
CAMPAIGN = 300


class Outcome(NamedTuple):
    """What came of one seed."""

    seed: int
    rule: str
    """The promise that broke; "" when none did."""
    detail: str
    step: int
    """Log sequence it broke at, or the last one."""
    virtual_s: float
    sometimes: Counter[str]


def live(plan: Plan) -> tuple[World, Outcome]:
    """One world from its beginning to its end."""
    world = World(plan)
    rule = detail = ""
    try:
        world.run()
    except Exception as error:
        rule = (
            getattr(error, "rule", "")
            or f"{type(error).__name__}: {error}".partition(":")[2].strip()
        )
        rule, detail = rule.partition(": {")[0][:120], repr(error)
    return world, Outcome(
        plan.seed, rule, detail, world.log.last, world.loop.time(), world.sometimes
    )


def live_seed(seed: int) -> Outcome:
    """`live` for other processes."""
    return live(make_plan(seed))[1]


def _begin() -> None:
    twins.install()
    gc.collect()
    gc.freeze()


def run_seeds(seeds: range, jobs: int | None = None) -> Iterator[Outcome]:
    """The outcomes, as they come."""
    jobs = jobs or min(len(os.sched_getaffinity(0)), len(seeds))
    if jobs <= 1:
        _begin()
        yield from map(live_seed, seeds)
        return
    context = multiprocessing.get_context("fork")
    with context.Pool(jobs, _begin, maxtasksperchild=500) as pool:
        yield from pool.imap_unordered(live_seed, seeds, chunksize=4)


def unseen(sometimes: Counter[str]) -> list[str]:
    """Rare states that a campaign did not reach."""
    return [state for state in SOMETIMES if not sometimes[state]]
