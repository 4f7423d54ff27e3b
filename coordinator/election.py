"""Holding the lease and being elected by the log. Rule: the lease permits to try, the log alone
elects (L1, L2).

Every acquisition uses a new term and a new nonce. Who holds the lease and does not lead appends or
releases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from ..core.errors import LogUnavailable
from ..core.ids import random_id
from ..core.ports import Clock, Lease, LeaseStore

Elect = Callable[[str], Awaitable[bool]]
"""Append a claim under this nonce; True once it was read back as valid."""


class LeaseKeeper:
    """Competes for the lease, renews it, and tells when it is lost."""

    def __init__(
        self,
        store: LeaseStore,
        clock: Clock,
        name: str,
        ttl_ms: int,
        is_gone: Callable[[str], bool],
        place: Callable[[], str] = str,
    ) -> None:
        self.store = store
        self.clock = clock
        self.name = name
        self.place = place
        """Where its connection is now; it goes into the lease after the name and a slash, so that
        `is_gone` of the others judges by what is true since the last renewal."""
        self.ttl_ms = ttl_ms
        self.is_gone = is_gone
        """Whether the holder named by the lease is certainly not there any more (only a hint: the
        log elects)."""
        self.seen = Lease("", 0)
        self._changed = asyncio.Event()
        self._revision = 0
        self._until_ns = 0

    @property
    def held(self) -> bool:
        """Whether this keeper may act as holder now, by its own monotonic clock."""
        return self._revision > 0 and self.clock.monotonic_ns() < self._until_ns

    def mine(self, holder: str) -> bool:
        """Whether the lease names this keeper."""
        return holder.startswith(f"{self.name}/")

    def nudge(self) -> None:
        """Something changed outside: look at the lease again at once."""
        self._changed.set()

    async def watch(self) -> None:
        """Follow the key for ever."""
        async with aclosing(self.store.watch()) as changes:
            async for lease in changes:
                self.seen = lease
                self._changed.set()

    async def acquire(self) -> None:
        """Returns when this keeper holds the lease."""
        while True:
            self._changed.clear()
            seen = self.seen
            free = not seen.holder or self.mine(seen.holder) or self.is_gone(seen.holder)
            if free and await self._claim(seen.revision):
                return
            try:
                await asyncio.wait_for(self._changed.wait(), self.ttl_ms / 1000)
            except TimeoutError:
                continue

    async def _claim(self, expected: int) -> bool:
        sent_ns = self.clock.monotonic_ns()
        holder = f"{self.name}/{self.place()}"
        try:
            revision = await self.store.claim(holder, expected, self.ttl_ms)
        except LogUnavailable:
            return False
        if revision is None:
            return False
        self._revision = revision
        self._until_ns = sent_ns + self.ttl_ms * 1_000_000
        return True

    async def keep(self) -> None:
        """Renew at a third of the time to live; returns when the lease is lost."""
        while self.held:
            await asyncio.sleep(self.ttl_ms / 3000)
            if self.seen.revision > self._revision and not self.mine(self.seen.holder):
                break
            await self._claim(self._revision)
        self._revision = 0

    async def release(self) -> None:
        """Give it back, so that others need not wait for its time to live; best effort."""
        revision, self._revision = self._revision, 0
        if revision:
            try:
                await self.store.release(revision)
            except LogUnavailable:
                return


def new_nonce() -> str:
    """An election nonce: 40 random bits, part of every attempt token of the term."""
    return random_id(8)
