"""What every `LeaseStore` promises: the twin in memory and the KV bucket."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from dtf.core.ports import Lease

from .conftest import LeaseHarness


async def test_the_first_claim_wins_and_the_revision_fences_the_others(lease: LeaseHarness) -> None:
    revision = await lease.store.claim("a", 0, 60_000)
    assert revision is not None
    assert await lease.store.claim("b", 0, 60_000) is None
    renewed = await lease.store.claim("a", revision, 60_000)
    assert renewed is not None
    assert renewed > revision
    assert await lease.store.claim("a", revision, 60_000) is None


async def test_of_many_claims_at_once_one_wins(lease: LeaseHarness) -> None:
    claims = await asyncio.gather(*[lease.store.claim(f"c{i}", 0, 60_000) for i in range(8)])
    assert sum(claim is not None for claim in claims) == 1


async def test_release_needs_the_revision_and_frees_the_key(lease: LeaseHarness) -> None:
    revision = await lease.store.claim("a", 0, 60_000)
    assert revision is not None
    assert not await lease.store.release(revision + 7)
    assert await lease.store.release(revision)
    async with asyncio.timeout(20), aclosing(lease.store.watch()) as states:
        vacant = await anext(states)
    assert vacant.holder == ""
    assert await lease.store.claim("b", vacant.revision, 60_000) is not None


async def test_a_watcher_sees_the_state_then_every_change(lease: LeaseHarness) -> None:
    async with asyncio.timeout(20), aclosing(lease.store.watch()) as states:
        assert await anext(states) == Lease("", 0)
        first = await lease.store.claim("a", 0, 60_000)
        assert first is not None
        assert await anext(states) == Lease("a", first)
        second = await lease.store.claim("a", first, 60_000)
        assert second is not None
        assert await anext(states) == Lease("a", second)
        await lease.store.release(second)
        vacant = await anext(states)
        assert (vacant.holder, vacant.revision > second) == ("", True)


async def test_a_late_watcher_starts_with_the_holder(lease: LeaseHarness) -> None:
    revision = await lease.store.claim("a", 0, 60_000)
    assert revision is not None
    async with asyncio.timeout(20), aclosing(lease.store.watch()) as states:
        assert await anext(states) == Lease("a", revision)


async def test_a_lease_that_is_not_renewed_expires_and_can_be_claimed(lease: LeaseHarness) -> None:
    async with asyncio.timeout(20), aclosing(lease.store.watch()) as states:
        assert await anext(states) == Lease("", 0)
        revision = await lease.store.claim("a", 0, 1000)
        assert revision is not None
        assert await anext(states) == Lease("a", revision)
        lease.seconds_pass(1)
        vacant = await anext(states)
        assert (vacant.holder, vacant.revision > revision) == ("", True)
        assert await lease.store.claim("a", revision, 1000) is None
        taken = await lease.store.claim("b", vacant.revision, 1000)
        assert taken is not None
        assert await anext(states) == Lease("b", taken)
