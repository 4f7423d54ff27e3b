"""Blobs on a real object store when the server goes away, and as other NATS tools see them."""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path

import pytest
from dtf.core.adapters.blobs import JetStreamBlobs
from dtf.core.adapters.nats_client import Connection
from dtf.core.errors import BlobCorrupt, BlobMissing, LogUnavailable, NotFound
from dtf.core.server import EmbeddedServer
from dtf.core.subjects import Subjects

BIG = random.Random(7).randbytes(12_000_000)


@pytest.fixture
def blobs(connection: Connection, pool: Subjects) -> JetStreamBlobs:
    return JetStreamBlobs(connection, pool.blob_bucket)


async def stored_chunks(blobs: JetStreamBlobs) -> int:
    info = await blobs.connection.api(f"STREAM.INFO.{blobs.stream}")
    return int(info["state"]["messages"])


async def test_a_put_and_a_get_outlive_a_server_that_is_killed(
    server: EmbeddedServer, blobs: JetStreamBlobs, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(BIG)
    async with asyncio.timeout(60):
        putting = asyncio.ensure_future(blobs.put_file(source))
        while not await stored_chunks(blobs):
            pass
        await again(server)
        digest = await putting
        getting = asyncio.ensure_future(blobs.get_file(digest, target))
        await again(server)
        await getting
    assert target.read_bytes() == BIG


async def again(server: EmbeddedServer) -> None:
    server.kill()
    await server.start()


async def test_without_a_server_every_call_ends_at_its_limit(
    server: EmbeddedServer, blobs: JetStreamBlobs
) -> None:
    digest = await blobs.put(b"hello")
    blobs.timeout_s = 0.2
    await server.stop()
    for call in (blobs.has(digest), blobs.get(digest), blobs.put(b"other")):
        with pytest.raises(LogUnavailable, match="sha256:"):
            await call


async def test_a_put_that_dies_leaves_nothing_that_looks_like_a_blob(
    blobs: JetStreamBlobs, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(BIG)
    digest = "sha256:" + hashlib.sha256(BIG).hexdigest()
    putting = asyncio.ensure_future(blobs.put_file(source))
    while not await stored_chunks(blobs):
        pass
    putting.cancel()
    await asyncio.wait([putting])
    assert not await blobs.has(digest)
    with pytest.raises(BlobMissing):
        await blobs.get(digest)
    assert await blobs.put_file(source) == digest
    assert await blobs.get(digest) == BIG


async def test_lost_chunks_are_told(blobs: JetStreamBlobs) -> None:
    digest = await blobs.put(BIG)
    await blobs.connection.api(
        f"STREAM.PURGE.{blobs.stream}", {"filter": f"$O.{blobs.bucket}.C.>", "keep": 3}
    )
    with pytest.raises(BlobCorrupt, match="gone"):
        await blobs.get(digest)


async def test_other_nats_tools_read_our_blobs(blobs: JetStreamBlobs, tmp_path: Path) -> None:
    digest = await blobs.put(BIG)
    store = await blobs.connection.nc.jetstream().object_store(blobs.bucket)
    info = await store.get_info(digest)
    assert (info.size, info.chunks) == (len(BIG), -(-len(BIG) // (512 * 1024)))
    assert info.digest.startswith("SHA-256=")
    with (tmp_path / "out").open("wb") as out:
        await store.get(digest, writeinto=out)
    assert (tmp_path / "out").read_bytes() == BIG


async def test_a_bucket_that_is_not_there_is_named(connection: Connection) -> None:
    with pytest.raises(NotFound, match="no object store nope"):
        await JetStreamBlobs(connection, "nope").put(b"x")
