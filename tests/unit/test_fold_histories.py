"""Promises of the fold over random histories (`histories.py`): one seed is one history.

Each message already checks the invariants of the state and that void events change nothing.
"""

from __future__ import annotations

import msgspec
import pytest
from dtf.core import events as e
from dtf.core.codec import Undecodable, encode_event
from dtf.core.evolve import VOID_REASONS
from dtf.core.fold import Fold
from dtf.core.ports import Message
from dtf.core.snapshot import decode_pool, encode_pool
from dtf.core.state import Pool, digest
from dtf.core.subjects import Subject
from histories import History
from worlds import World, facts

SEEDS = range(30)
STEPS = 120


def world_of(seed: int) -> World:
    return History(seed).grow(STEPS)


def outcomes(pool: Pool) -> dict[tuple[str, int, str], str]:
    """Settled runs by what can never come again: id and the position they were opened at."""
    return {
        (run.id, run.opened_at, "run"): run.settled for run in pool.runs.values() if run.settled
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_settled_stays_settled(seed: int) -> None:
    history = History(seed)
    verdicts: dict[tuple[str, int, str], bytes] = {}
    runs: dict[tuple[str, int], str] = {}
    for _ in range(STEPS):
        pool = history.grow(1).pool
        for run in pool.runs.values():
            for name, group in run.groups.items():
                key = (run.id, run.opened_at, name)
                for before, after in zip(verdicts.get(key, b""), group.verdicts, strict=False):
                    assert before in (0, after), (seed, key)
                verdicts[key] = bytes(group.verdicts)
        for where, settled in outcomes(pool).items():
            assert runs.setdefault(where, settled) == settled, (seed, where)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_task_has_at_most_one_counted_verdict_and_a_run_settles_after_them(seed: int) -> None:
    """Told from the judgements alone, as a client or a projection would."""
    world = world_of(seed)
    again = Fold("main")
    counted: dict[str, dict[str, str]] = {}
    ranges: dict[str, int] = {}
    for stored in world.log:
        judged = again.apply(stored)
        for event, void in zip(judged.events, judged.voids, strict=False):
            if void or judged.subject is None:
                continue
            run = judged.subject.run
            if isinstance(event, e.RunSubmitted | e.RunForgotten):
                counted[run], ranges[run] = {}, 0
            elif isinstance(event, e.TaskSettled):
                assert event.task not in counted.setdefault(run, {}), (seed, stored.sequence)
                counted[run][event.task] = event.verdict
            elif isinstance(event, e.RunSettled):
                settled = sum(event.counts.values())
                assert settled >= len(counted.get(run, {})), (seed, stored.sequence)


@pytest.mark.parametrize("seed", SEEDS)
def test_f1_the_same_log_gives_the_same_state(seed: int) -> None:
    world = world_of(seed)
    again = Fold("main")
    for stored in world.log:
        again.apply(stored)
    assert digest(again.pool) == digest(world.pool) == digest(world_of(seed).pool)


@pytest.mark.parametrize("seed", SEEDS)
def test_f2_how_events_are_cut_into_messages_changes_no_judgement(seed: int) -> None:
    world = world_of(seed)
    whole, single = Fold("main"), Fold("main")
    sequence = 0
    for stored in world.log:
        judged = whole.apply(stored)
        if any(isinstance(event, Undecodable) for event in judged.events):
            sequence += 1
            single.apply(stored._replace(sequence=sequence))
            continue
        for event, void in zip(judged.events, judged.voids, strict=False):
            sequence += 1
            assert isinstance(event, e.Event)
            alone = stored._replace(sequence=sequence, data=encode_event(event))
            assert single.apply(alone).voids[0] == void, (seed, stored.sequence, event)
    assert whole.pool.voids == single.pool.voids
    for name, run in whole.pool.runs.items():
        assert run.counts == single.pool.runs[name].counts


@pytest.mark.parametrize("seed", SEEDS)
def test_a2_what_counted_once_changes_nothing_when_it_is_stored_again(seed: int) -> None:
    """Every message of a worker or of a run's publisher, delivered again at the end.

    Not for a run that was forgotten: its key may be used again, that is what forgetting is for.
    """
    world = world_of(seed)
    again = Fold("main")
    forgotten: set[str] = set()
    said: list[tuple[Subject, Message]] = []
    for stored in world.log:
        judged = again.apply(stored)
        subject = judged.subject
        if subject is None or not judged.events:
            continue
        if any(isinstance(event, e.RunForgotten) for event in judged.events):
            forgotten.add(subject.run)
        if not any(judged.voids) and subject.kind in ("run", "worker", "attempt"):
            said.append((subject, stored))
    before = facts(again.pool)
    sequence = again.pool.sequence
    for subject, stored in said:
        run = again.pool.runs.get(subject.run)
        stranger = subject.kind == "run" and run is not None and run.publisher != subject.owner
        if not stranger and subject.run not in forgotten:
            sequence += 1
            judged = again.apply(stored._replace(sequence=sequence))
            assert all(judged.voids), (seed, stored.sequence, judged.events)
    assert facts(again.pool) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_f8_a_state_restored_midway_goes_on_alike(seed: int) -> None:
    world = world_of(seed)
    half = Fold("main")
    middle = len(world.log) // 2
    for stored in world.log[:middle]:
        half.apply(stored)
    restored = Fold("main", decode_pool(encode_pool(half.pool)))
    for stored in world.log[middle:]:
        assert restored.apply(stored).voids == half.apply(stored).voids, (seed, stored.sequence)
    assert digest(restored.pool) == digest(half.pool) == digest(world.pool)


def test_the_histories_reach_what_they_are_for() -> None:
    """Every event counts somewhere, and every reason voids something somewhere."""
    counted: set[type] = set()
    reasons: set[str] = set()
    for seed in SEEDS:
        world = world_of(seed)
        again = Fold("main")
        for stored in world.log:
            judged = again.apply(stored)
            for event, void in zip(judged.events, judged.voids, strict=False):
                if not void:
                    counted.add(type(event))
                reasons.add(void)
    missing = {kind for kinds in e.WRITERS.values() for kind in kinds} - counted
    assert missing == {e.ArtifactStored, e.CasesCollected}  # like CasesReported
    unseen = VOID_REASONS - reasons
    assert unseen <= {"fold_error", "fold_version", "too_many", "no_pool", "other_pool"}, unseen


def test_one_seed_is_one_history() -> None:
    assert world_of(3).log == world_of(3).log
    assert msgspec.json.encode(world_of(3).log) != msgspec.json.encode(world_of(4).log)
