"""Code on this worker. Rule: one folder per digest, complete or absent; fetched once, whoever
asks at the same time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from pathlib import Path

from ..core.bundle_unpacking import unpack
from ..core.errors import LogUnavailable
from ..core.ports import BlobStore

RETRY_S = 1.0
log = logging.getLogger("dtf.worker")


class BundleCache:
    """Unpacked bundles below `folder`, at most about `bytes_max`; the one not used for longest
    goes first.
    """

    def __init__(
        self,
        folder: Path,
        blobs: BlobStore,
        bytes_max: int,
    ) -> None:
        self._folder = folder
        self._blobs = blobs
        self._bytes_max = bytes_max
        self._fetching: dict[str, asyncio.Task[Path]] = {}
        self._users: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def folder_of(self, digest: str) -> Path:
        """Where the bundle lies once it is here."""
        return self._folder / digest.replace(":", "-")

    def here(self, digest: str) -> Path | None:
        """The folder if the bundle is unpacked already."""
        folder = self.folder_of(digest)
        return folder if folder.is_dir() else None

    def take_now(self, digest: str) -> Path | None:
        """`take` for a bundle that is here already; None when it is not."""
        folder = self.here(digest)
        if folder is not None:
            self._users[digest] = self._users.get(digest, 0) + 1
            os.utime(folder)
        return folder

    async def take(self, digest: str) -> Path:
        """The unpacked bundle; it stays until `give_back`. Raises what the blob store and
        `unpack` raise.
        """
        self._users[digest] = self._users.get(digest, 0) + 1
        try:
            folder = self.here(digest)
            if folder is None:
                task = self._fetching.get(digest)
                if task is None:
                    task = asyncio.create_task(self._fetch(digest), name=f"fetch {digest[:20]}")
                    self._fetching[digest] = task
                    task.add_done_callback(lambda _: self._fetching.pop(digest, None))
                folder = await asyncio.shield(task)
            os.utime(folder)
            return folder
        except BaseException:
            self.give_back(digest)
            raise

    async def take_patiently(self, digest: str) -> Path:
        """`take`, asked again as long as the blob store does not answer."""
        while True:
            try:
                return await self.take(digest)
            except LogUnavailable as error:
                log.info("bundle %s: asking again: %s", digest, error)
                await asyncio.sleep(RETRY_S)

    def give_back(self, digest: str) -> None:
        """One user less."""
        left = self._users.get(digest, 0) - 1
        if left > 0:
            self._users[digest] = left
        else:
            self._users.pop(digest, None)

    async def _fetch(self, digest: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self.folder_of(digest)
        packed = target.with_name(f".{target.name}.{os.getpid()}.packed")
        try:
            await self._blobs.get_file(digest, packed)
            await asyncio.to_thread(unpack, packed, target)
        finally:
            packed.unlink(missing_ok=True)
        await asyncio.to_thread(self._evict, digest)
        return target

    def _evict(self, newest: str) -> None:
        """Bundles nobody uses are removed, the oldest first, until the cache fits. Runs in a
        thread.
        """
        folders = [f for f in self._folder.iterdir() if f.is_dir() and f.name[0] != "."]
        folders.sort(key=lambda folder: folder.stat().st_mtime)
        total = sum(self._size(folder) for folder in folders)
        keep = {self.folder_of(digest).name for digest in (*self._users, newest)}
        for folder in folders:
            if total <= self._bytes_max:
                return
            if folder.name not in keep:
                total -= self._size(folder)
                self._sizes.pop(folder.name, None)
                log.info("removing bundle %s from the cache", folder.name)
                shutil.rmtree(folder, ignore_errors=True)

    def _size(self, folder: Path) -> int:
        if folder.name not in self._sizes:
            self._sizes[folder.name] = folder_size(folder)
        return self._sizes[folder.name]


def folder_size(folder: Path | str, stop_at: int = 2**62) -> int:
    """Bytes the files below a folder occupy; counting ends early above `stop_at`. What vanishes
    counts nothing.
    """
    total = 0
    todo = [str(folder)]
    while todo and total <= stop_at:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total
