"""What every `BlobStore` promises: the twin in memory and the object store."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from dtf.core.errors import BlobCorrupt, BlobMissing

from .conftest import BlobHarness

BIG = random.Random(7).randbytes(1_300_000)
"""More than two chunks of the real adapter."""


@pytest.mark.parametrize("data", [b"", b"hello", BIG], ids=["empty", "small", "big"])
async def test_content_comes_back_under_its_digest(blobs: BlobHarness, data: bytes) -> None:
    digest = await blobs.store.put(data)
    assert digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert await blobs.store.has(digest)
    assert await blobs.store.get(digest) == data


async def test_putting_twice_stores_once(blobs: BlobHarness, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(BIG)
    assert await blobs.store.put(BIG) == await blobs.store.put_file(source)


async def test_files_go_in_and_come_out_whole(blobs: BlobHarness, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "out" / "target"
    target.parent.mkdir()
    source.write_bytes(BIG)
    target.write_bytes(b"old")
    digest = await blobs.store.put_file(source)
    await blobs.store.get_file(digest, target)
    assert target.read_bytes() == BIG
    assert [path.name for path in target.parent.iterdir()] == ["target"]


async def test_what_is_not_stored_is_missing(blobs: BlobHarness, tmp_path: Path) -> None:
    nothing = "sha256:" + "0" * 64
    assert not await blobs.store.has(nothing)
    with pytest.raises(BlobMissing):
        await blobs.store.get(nothing)
    target = tmp_path / "out" / "target"
    target.parent.mkdir()
    with pytest.raises(BlobMissing):
        await blobs.store.get_file(nothing, target)
    assert list(target.parent.iterdir()) == []


async def test_another_content_is_never_handed_out(blobs: BlobHarness, tmp_path: Path) -> None:
    digest = await blobs.store.put(b"hello")
    await blobs.corrupt(digest)
    with pytest.raises(BlobCorrupt):
        await blobs.store.get(digest)
    target = tmp_path / "out" / "target"
    target.parent.mkdir()
    with pytest.raises(BlobCorrupt):
        await blobs.store.get_file(digest, target)
    assert list(target.parent.iterdir()) == []


async def test_get_in_memory_is_bounded(blobs: BlobHarness) -> None:
    digest = await blobs.store.put(b"x" * 1001)
    assert len(await blobs.store.get(digest, bytes_max=1001)) == 1001
    with pytest.raises(BlobCorrupt):
        await blobs.store.get(digest, bytes_max=1000)
