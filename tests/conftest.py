"""Fixtures shared by all tests: a real nats-server, a connection to it, a pool on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dtf.core.adapters.nats_client import Connection, connect
from dtf.core.server import EmbeddedServer
from dtf.core.setup import init_pool
from dtf.core.subjects import Subjects


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A running nats-server of its own; fsync off, because no test pulls the plug."""
    async with EmbeddedServer(tmp_path / "server", sync_always=False) as running:
        yield running


@pytest.fixture
async def connection(server: EmbeddedServer) -> AsyncIterator[Connection]:
    """A connection to `server`."""
    opened = await connect(server.options("test"))
    yield opened
    await opened.aclose()


@pytest.fixture
async def pool(connection: Connection) -> Subjects:
    """The subjects of pool `main`, made on `server`."""
    await init_pool(connection, "main")
    return Subjects("main")
