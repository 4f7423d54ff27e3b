"""The bundle cache: fetched once, kept while in use, bounded."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from dtf.core.adapters.memory import MemoryBlobs
from dtf.core.bundle import pack
from dtf.core.errors import BlobMissing, LogUnavailable
from dtf.worker import bundles as b


class Blobs(MemoryBlobs):
    """Counts what is fetched, and may wait."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def get_file(self, digest: str, path: Path) -> None:
        self.fetched.append(digest)
        await self.gate.wait()
        await super().get_file(digest, path)


async def put(blobs: Blobs, folder: Path, text: str) -> str:
    return await blobs.put(packed(folder, text))


def packed(folder: Path, text: str) -> bytes:
    source = folder / "source"
    source.mkdir(exist_ok=True)
    (source / "file").write_text(text)
    return pack(source, cache_dir=folder / "packed").path.read_bytes()


async def test_two_who_ask_at_once_fetch_once(tmp_path: Path) -> None:
    blobs = Blobs()
    digest = await put(blobs, tmp_path, "x")
    cache = b.BundleCache(tmp_path / "cache", blobs, 1 << 30)
    assert cache.take_now(digest) is None
    first, second = await asyncio.gather(cache.take(digest), cache.take(digest))
    assert first == second == cache.here(digest) == cache.take_now(digest)
    assert (first / "file").read_text() == "x"
    assert blobs.fetched == [digest]


async def test_one_who_gives_up_does_not_stop_the_other(tmp_path: Path) -> None:
    blobs = Blobs()
    digest = await put(blobs, tmp_path, "x")
    cache = b.BundleCache(tmp_path / "cache", blobs, 1 << 30)
    blobs.gate.clear()
    first, second = (asyncio.create_task(cache.take(digest)) for _ in range(2))
    while not blobs.fetched:  # noqa: ASYNC110
        await asyncio.sleep(0)
    first.cancel()
    blobs.gate.set()
    assert (await second).is_dir()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_what_cannot_be_fetched_is_not_there_and_may_be_asked_for_again(
    tmp_path: Path,
) -> None:
    blobs = Blobs()
    cache = b.BundleCache(tmp_path / "cache", blobs, 1 << 30)
    data = packed(tmp_path, "later")
    digest = await Blobs().put(data)
    with pytest.raises(BlobMissing):
        await cache.take(digest)
    assert cache.here(digest) is None
    await blobs.put(data)
    assert (await cache.take(digest)).is_dir()


async def test_a_store_that_does_not_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(b, "RETRY_S", 0.001)
    blobs = Blobs()
    digest = await put(blobs, tmp_path, "x")
    cache = b.BundleCache(tmp_path / "cache", blobs, 1 << 30)
    blobs.offline = True
    with pytest.raises(LogUnavailable):
        await cache.take(digest)
    waiting = asyncio.create_task(cache.take_patiently(digest))
    while len(blobs.fetched) < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    blobs.offline = False
    assert (await waiting).is_dir()


async def test_the_least_recently_used_goes_first_and_nothing_in_use_goes(tmp_path: Path) -> None:
    blobs = Blobs()
    cache = b.BundleCache(tmp_path / "cache", blobs, 250_000)
    digests = [await put(blobs, tmp_path, f"{i}" * 100_000) for i in range(4)]
    for age, digest in enumerate(digests[:2]):
        folder = await cache.take(digest)
        os.utime(folder, (age, age))
        if age:
            cache.give_back(digest)
    third = await cache.take(digests[2])
    assert cache.here(digests[0]), "in use, though the oldest"
    assert not cache.here(digests[1])
    assert third.is_dir()
    cache.give_back(digests[0])
    await cache.take(digests[3])
    assert not cache.here(digests[0])


def test_the_size_of_a_folder_counts_what_lies_below_and_stops_when_it_is_enough(
    tmp_path: Path,
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(os.urandom(100_000))
    (tmp_path / "loop").symlink_to(tmp_path)
    assert 100_000 <= b.folder_size(tmp_path) < 200_000
    assert b.folder_size(tmp_path / "none") == 0
