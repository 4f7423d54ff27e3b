"""A coordinator that holds the lease says where it is now, so that nobody takes it for gone."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from dtf.coordinator.election import LeaseKeeper
from dtf.core.adapters.memory import ManualClock, MemoryLease

TTL_MS = 30


def keeper(store: MemoryLease, clock: ManualClock, name: str, place: list[str]) -> LeaseKeeper:
    def is_gone(holder: str) -> bool:
        """As coordinators judge: it was on a server that is no more."""
        return bool(place) and holder.split("/")[1] != place[0]

    return LeaseKeeper(store, clock, name, TTL_MS, is_gone, lambda: place[0])


async def test_a_renewal_names_the_connection_as_it_is_now() -> None:
    """A server restarts, everybody connects anew: without this, each takes the others for gone,
    and the lease goes round for ever."""
    clock, place = ManualClock(), ["server1"]
    store = MemoryLease(clock)
    mine = keeper(store, clock, "a", place)
    await mine.acquire()
    assert store.state.holder == "a/server1"
    place[0] = "server2"
    renewing = asyncio.create_task(mine.keep())
    async with aclosing(store.watch()) as states:
        async for state in states:
            if state.holder == "a/server2":
                break
    assert mine.held
    assert mine.mine(store.state.holder)
    renewing.cancel()


async def test_another_keeper_leaves_a_renewed_lease_alone() -> None:
    clock, place = ManualClock(), ["server2"]
    store = MemoryLease(clock)
    await keeper(store, clock, "a", place).acquire()
    other = keeper(store, clock, "b", place)
    other.seen = store.state
    assert not other.is_gone(store.state.holder)
    assert not other.mine(store.state.holder)
    place[0] = "server3"
    assert other.is_gone(store.state.holder)
