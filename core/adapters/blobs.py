"""Content-addressed blobs in a JetStream object store.

Rule: a blob is there whole and verified, or not at all.

The layout is that of NATS object stores (chunks on `$O.<bucket>.C.<id>`, one entry on
`$O.<bucket>.M.<name>`), so `nats object get` reads them. An entry is written after its chunks were
acknowledged; a put that dies leaves chunks nobody refers to. No put or get of a file holds more
than some chunks in memory.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..errors import BlobCorrupt, BlobMissing, LogUnavailable, NotFound
from ..ids import random_id
from .jetstream import NO_MESSAGE, JetStreamLog
from .log_reader import STREAM_NOT_FOUND, LogReader
from .nats_client import ApiError, Connection

CHUNK_BYTES = 512 * 1024
RETRY_S = 0.2
RESEND_LIMIT_S = 60.0
"""A message is not sent again after this: the broker knows its id for two minutes only."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class _Entry(msgspec.Struct):
    nuid: str
    size: int
    chunks: int
    deleted: bool = False


class JetStreamBlobs:
    """`BlobStore` over one bucket that `setup.init_pool` made.

    `timeout_s` bounds each put and get as a whole plus one second for each MiB; within it, lost
    connections are waited for and the work goes on.
    """

    def __init__(self, connection: Connection, bucket: str, *, timeout_s: float = 60.0) -> None:
        self.connection = connection
        self.bucket = bucket
        self.stream = f"OBJ_{bucket}"
        self.timeout_s = timeout_s
        self._log = JetStreamLog(connection, self.stream)

    # -- in ------------------------------------------------------------------------------------
    async def put_file(self, path: Path) -> str:
        """See `BlobStore.put_file`. Raises `BlobCorrupt` when the file changes meanwhile."""
        digest, size = await asyncio.to_thread(_measure, path)
        with await asyncio.to_thread(path.open, "rb") as file:
            await self._put(digest, size, file)
        return digest

    async def put(self, data: bytes) -> str:
        """See `BlobStore.put`."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        with io.BytesIO(data) as file:
            await self._put(digest, len(data), file)
        return digest

    async def _put(self, digest: str, size: int, file: BinaryIO) -> None:
        async with self._limit(size, digest):
            if await self._entry(digest) is not None:
                return
            nuid = random_id(22)
            await self._send_chunks(f"$O.{self.bucket}.C.{nuid}", digest, size, file)
            await self._publish(self._entry_subject(digest), self._describe(digest, size, nuid))

    async def _send_chunks(self, subject: str, digest: str, size: int, file: BinaryIO) -> None:
        """The file's chunks, acknowledged in order, so that a chunk sent again never overtakes the
        next one.
        """
        found = hashlib.sha256()
        sent = 0
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
            sent += len(chunk)
            await self._publish(subject, chunk)
        if sent != size or f"sha256:{found.hexdigest()}" != digest:
            raise BlobCorrupt(f"the file changed while it was stored as {digest}")

    async def _publish(self, subject: str, data: bytes) -> None:
        message_id = random_id(26)
        async with _limit(RESEND_LIMIT_S, f"no answer while storing into {self.bucket}"):
            while True:
                with contextlib.suppress(LogUnavailable):
                    await self._log.append(subject, data, message_id, timeout=10.0)
                    return
                await asyncio.sleep(RETRY_S)
                await self.connection.wait_connected()

    def _describe(self, digest: str, size: int, nuid: str) -> bytes:
        raw = bytes.fromhex(digest.removeprefix("sha256:"))
        return msgspec.json.encode(
            {
                "name": digest,
                "options": {"max_chunk_size": CHUNK_BYTES},
                "bucket": self.bucket,
                "nuid": nuid,
                "size": size,
                "chunks": -(-size // CHUNK_BYTES),
                "digest": "SHA-256=" + base64.urlsafe_b64encode(raw).decode(),
            }
        )

    # -- out -----------------------------------------------------------------------------------
    async def has(self, digest: str) -> bool:
        """See `BlobStore.has`."""
        async with self._limit(0, digest):
            return await self._entry(digest) is not None

    async def get(self, digest: str, *, bytes_max: int = 64 * 1024 * 1024) -> bytes:
        """See `BlobStore.get`. Raises `BlobCorrupt` when it has more than `bytes_max`."""
        found = bytearray()
        async with aclosing(self._content(digest, bytes_max)) as chunks:
            async for chunk in chunks:
                found += chunk
        return bytes(found)

    async def get_file(self, digest: str, path: Path) -> None:
        """See `BlobStore.get_file`."""
        temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
        try:
            with await asyncio.to_thread(temporary.open, "xb") as file:
                async with aclosing(self._content(digest, None)) as chunks:
                    async for chunk in chunks:
                        file.write(chunk)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    async def _content(self, digest: str, bytes_max: int | None) -> AsyncGenerator[bytes, None]:
        """The chunks of a blob; the iteration ends in `BlobCorrupt` when they were not its own."""
        async with self._limit(0, digest):
            entry = await self._entry(digest)
        if entry is None:
            raise BlobMissing(f"{digest} is not stored in {self.bucket}")
        if bytes_max is not None and entry.size > bytes_max:
            raise BlobCorrupt(f"{digest} has {entry.size} bytes, more than {bytes_max}")
        found = hashlib.sha256()
        deadline = self._deadline(entry.size)
        async with aclosing(self._chunks(entry, digest, deadline)) as chunks:
            async for chunk in chunks:
                found.update(chunk)
                yield chunk
        if f"sha256:{found.hexdigest()}" != digest:
            raise BlobCorrupt(f"what is stored as {digest} has another content")

    async def _chunks(
        self, entry: _Entry, digest: str, deadline: float
    ) -> AsyncGenerator[bytes, None]:
        left = entry.chunks
        if not left:
            return
        subject = f"$O.{self.bucket}.C.{entry.nuid}"
        reader = LogReader(self.connection, self.stream, [subject], 0, name="blob")
        reader.open()
        try:
            while left > 0:
                async with _limit_at(deadline, f"{digest} did not arrive in time"):
                    arrived = await reader.next_batch()
                if not arrived and reader.waiting_at_start < left:
                    raise BlobCorrupt(f"{left} chunks of {digest} are gone")
                for message in arrived[:left]:
                    yield message.data
                left -= len(arrived)
        finally:
            reader.close()

    # -- entries -------------------------------------------------------------------------------
    def _entry_subject(self, digest: str) -> str:
        if DIGEST.fullmatch(digest) is None:
            raise BlobMissing(
                f"{digest[:100]!r} is no digest", remedy="Use sha256:<64 hex digits>."
            )
        return f"$O.{self.bucket}.M.{base64.urlsafe_b64encode(digest.encode()).decode()}"

    async def _entry(self, digest: str) -> _Entry | None:
        """What is known of a blob; asks until answered."""
        wanted = {"last_by_subj": self._entry_subject(digest)}
        while True:
            try:
                answer = await self.connection.api(f"STREAM.MSG.GET.{self.stream}", wanted)
                break
            except ApiError as error:
                if error.err_code == NO_MESSAGE:
                    return None
                if error.err_code == STREAM_NOT_FOUND:
                    raise NotFound(
                        f"the server has no object store {self.bucket}",
                        remedy="Create the pool first: `dtf pool init`.",
                    ) from error
                if 400 <= error.code < 500:
                    raise
            except LogUnavailable:
                await self.connection.wait_connected()
            await asyncio.sleep(RETRY_S)
        raw = base64.b64decode(answer["message"].get("data", ""))
        entry = msgspec.json.decode(raw, type=_Entry)
        return None if entry.deleted else entry

    def _deadline(self, size: int) -> float:
        return asyncio.get_running_loop().time() + self.timeout_s + size / 2**20

    def _limit(self, size: int, digest: str) -> contextlib.AbstractAsyncContextManager[None]:
        return _limit_at(self._deadline(size), f"no answer in time about {digest}")


def _limit(seconds: float, why: str) -> contextlib.AbstractAsyncContextManager[None]:
    return _limit_at(asyncio.get_running_loop().time() + seconds, why)


@contextlib.asynccontextmanager
async def _limit_at(deadline: float, why: str) -> AsyncIterator[None]:
    """`LogUnavailable` instead of `TimeoutError` at `deadline` (loop time)."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise LogUnavailable(why, remedy="Try again; if it lasts, look at the server.") from error


def _measure(path: Path) -> tuple[str, int]:
    """Digest and size of a file's content."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"sha256:{digest}", file.tell()
