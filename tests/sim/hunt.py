"""Catching mutants. Rule: each mutant lives in a process of its own, and every seed it survives is
one that a bug of this kind would survive.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import NamedTuple

from .campaign import _begin, live_seed
from .mutants import MUTANTS, Mutant
from .mutation import Outdated, apply

SEEDS_MAX = 500


class Catch(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    seed: int
    """That caught it; -1 when none did."""
    rule: str


def hunt(number: int, seeds: int) -> Catch:
    """The first seed that sees the mutant; in a fresh process."""
    mutant = MUTANTS[number]
    try:
        undo = apply(mutant.edits)
    except Outdated as problem:
        return Catch(mutant, -1, f"OUTDATED: {problem}")
    for seed in range(seeds):
        outcome = live_seed(seed)
        if outcome.rule:
            undo()
            if live_seed(seed).rule:
                return Catch(mutant, -1, f"SEED {seed} FAILS WITHOUT IT")
            return Catch(mutant, seed, outcome.rule.splitlines()[0][:90])
    return Catch(mutant, -1, "SURVIVES")


def _hunt(order: tuple[int, int]) -> Catch:
    return hunt(*order)


def hunt_all(only: str = "", seeds: int = SEEDS_MAX, jobs: int | None = None) -> int:
    """Hunt the mutants whose rule or name holds a word of `only` (separated by commas), print a
    table; 1 when one survives."""
    words = [word for word in only.split(",") if word]
    chosen = [
        number
        for number, mutant in enumerate(MUTANTS)
        if not words or any(word == mutant.rule or word in mutant.name for word in words)
    ]
    context = multiprocessing.get_context("fork")
    survivors = 0
    print(f"{'rule':5} {'mutation':62} {'seed':>4}  caught by")
    jobs = jobs or len(os.sched_getaffinity(0))
    with context.Pool(jobs, _begin, maxtasksperchild=1) as pool:
        for catch in pool.imap(_hunt, [(number, seeds) for number in chosen], chunksize=1):
            mutant = catch.mutant
            survivors += catch.seed < 0
            print(f"{mutant.rule:5} {mutant.name:62} {catch.seed:>4}  {catch.rule}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants caught")
    return 1 if survivors or not chosen else 0
