"""Who leads a pool. Rule: asked of the lease, with patience: a take-over lasts a few seconds."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio

from ..core.errors import NoLeader

if TYPE_CHECKING:
    from ..core.client import Client

PATIENCE_S = 5.0


async def leader_name(client: Client, patience_s: float = PATIENCE_S) -> str | None:
    """The coordinator that holds the lease; None when nobody does for `patience_s`."""
    from ..core.adapters.lease import JetStreamLease

    lease = JetStreamLease(client.connection, client.subjects.lease_bucket)
    with anyio.move_on_after(patience_s):
        async with aclosing(lease.watch()) as changes:
            async for found in changes:
                if found.holder:
                    return found.holder.partition("/")[0]
    return None


async def demand_leader(client: Client) -> None:
    """Raises `NoLeader` when nobody would schedule what is submitted."""
    if await leader_name(client) is None:
        raise NoLeader(
            f"nobody leads pool {client.subjects.pool}; nothing was submitted",
            remedy="Start a coordinator: dtf coordinator run (or leave it queued: dtf submit).",
        )
