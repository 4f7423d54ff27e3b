"""The log elects and deposes (protocol L1, L3, F4, F7)."""

from __future__ import annotations

import pytest
from dtf.core import events as e
from dtf.core.codec import encode_batch
from dtf.core.errors import FoldVersionError
from dtf.core.fold import Fold
from dtf.core.model import Cause, Verdict
from dtf.core.state import digest
from worlds import World, message, requeued


def claim(term: int, nonce: str = "n", **more: int) -> e.LeaderElected:
    return e.LeaderElected(term=term, coordinator="c", nonce=nonce, **more)


def test_l1_the_first_claim_of_the_next_term_wins() -> None:
    world = World()
    assert world.say("leader", claim(2, "a"), claim(2, "b")) == ["", "term"]
    world.void("term", "leader", claim(2, "c"))
    assert (world.pool.term, world.pool.nonce, world.pool.elected_at) == (2, "a", 4)


@pytest.mark.parametrize("term", [0, 1, 3, 2**53])
def test_l1_a_claim_of_any_other_term_is_void(term: int) -> None:
    world = World()
    world.void("term", "leader", claim(term))
    assert world.pool.term == 1


@pytest.mark.parametrize("away", [-1, 1])
def test_l3_every_ruling_of_another_term_is_void(away: int) -> None:
    world = World()
    world.elect()
    run = world.submit()
    token = world.assign(run)
    term = world.pool.term + away
    to_run = [
        e.SubmissionRejected(term=term, reason="no", fatal=True),
        requeued(term, token),
        e.TaskSettled(term=term, task="g-1", verdict=Verdict.PASSED),
        e.RangeSettled(
            term=term, group="g", start=0, stop=3, verdict=Verdict.ERROR, cause=Cause.NO_CAPACITY
        ),
        e.RunSettled(term=term, verdict="cancelled", counts={}),
        e.RunForgotten(term=term),
    ]
    to_worker = [
        world.assignment(run, world.next_token(run, "g-1"), term=term),
        e.AttemptRevoked(term=term, run=run, token=token, mode="cancel"),
        e.WorkerLost(term=term, incarnation="i1"),
    ]
    world.void("term", f"ruling.{run}", *to_run)
    world.void("term", "assign.cpu.w", *to_worker)


def test_l3_what_a_leader_wrote_before_it_was_deposed_still_counts() -> None:
    world = World()
    run = world.submit()
    token = world.assign(run)
    world.elect("d")
    world.finish(run, token)
    world.settle(run)
    assert world.run(run).counts == {"passed": 1}


def test_f4_a_newer_fold_stops_the_reader_and_leaves_the_state_where_it_was() -> None:
    fold = Fold("main")
    fold.apply(message(1, "pool", encode_batch([e.PoolCreated(uuid="u", name="main")])))
    before = digest(fold.pool)
    with pytest.raises(FoldVersionError, match="version 999"):
        fold.apply(message(2, "leader", encode_batch([claim(1, fold_version=999)])))
    assert digest(fold.pool) == before


def test_f4_the_fold_version_never_falls_and_starts_at_one() -> None:
    world = World()
    world.void("fold_version", "leader", claim(2, fold_version=0))
    new = World(bare=True)
    new.valid("pool", e.PoolCreated(uuid="u", name="main"))
    new.void("fold_version", "leader", claim(1, fold_version=0))


def test_f7_before_the_pool_is_created_everything_is_void() -> None:
    world = World(bare=True)
    world.void("no_pool", "leader", claim(1))
    world.void("no_pool", "run.me.r", e.RunSealed(parts=0, tasks=0))
    world.void("other_pool", "pool", e.PoolCreated(uuid="u", name="other"))
    voids = world.say("pool", e.PoolConfigured(admins=[]), e.PoolCreated(uuid="u", name="main"))
    assert voids == ["no_pool", ""]
    world.void("duplicate", "pool", e.PoolCreated(uuid="v", name="main"))
    assert world.pool.uuid == "u"


def test_settings_that_are_not_given_stay() -> None:
    world = World()
    world.valid("pool", e.PoolConfigured(admins=["boss"], incomplete_ms=5))
    world.valid("pool", e.PoolConfigured(remember_ms=700_000_000))
    pool = world.pool
    assert (pool.admins, pool.incomplete_ms, pool.remember_ms) == (["boss"], 5, 700_000_000)
