"""A coordinator as a process. Rule: it ends cleanly on SIGTERM and Ctrl-C, its lease released."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

from ..core.adapters.lease import JetStreamLease
from ..core.adapters.nats_client import connect
from ..core.errors import DtfError
from ..core.ids import to_name
from ..core.loop import run_async
from ..core.ports import Lease
from ..core.setup import init_pool
from ..core.subjects import Subjects
from .service import Coordinator, CoordinatorOptions

if TYPE_CHECKING:
    from ..core.config import Config

GC_THRESHOLD = 100_000
"""Allocations between collections: the fold makes no cycles that outlive a task, and is large."""


async def serve(config: Config, name: str, options: CoordinatorOptions) -> None:
    """Lead or stand by until SIGTERM or SIGINT. Raises what the connection and the fold raise."""
    connection = await connect(config.nats_options(f"dtf-coordinator.{name}"))
    try:
        await init_pool(connection, config.pool)
        coordinator = Coordinator.connected(connection, config.pool, name, options)
        running = asyncio.create_task(coordinator.run(), name="coordinator")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(
                NotImplementedError
            ):  # Windows: Ctrl-C raises KeyboardInterrupt
                loop.add_signal_handler(number, running.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        await connection.aclose()


def run_process(config: Config, name: str | None, options: CoordinatorOptions) -> int:
    """Run one coordinator in this process until it is stopped; the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr
    )
    gc.set_threshold(GC_THRESHOLD, 50, 100)
    run_async(serve(config, to_name(name or socket.gethostname()), options))
    return 0


async def read_lease(config: Config) -> Lease:
    """The leader key as it is now."""
    connection = await connect(config.nats_options("dtf"))
    try:
        lease = JetStreamLease(connection, Subjects(config.pool).lease_bucket)
        async with aclosing(lease.watch()) as changes:
            async for found in changes:
                return found
        raise DtfError("the leader key cannot be read")
    finally:
        await connection.aclose()
