"""Reading a stream without a gap or a repeat.

Rule: only what was asked for arrives, and every step is checked.

A pull consumer of our own (ephemeral, no acks, in memory), two requests outstanding, heartbeats,
consumer sequences compared; after any doubt (silence, a finished consumer, a reconnect) a new
consumer starts at the last message + 1. Credit is given when the iterator is asked for more, so a
reader that stalls holds at most `CREDIT` messages or about 2 x `PULL_BYTES`, and costs the server
nothing.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from ..errors import AppendRefused, DtfError, LogGap, LogUnavailable, NotFound
from ..ids import random_id
from ..ports import Message
from .nats_client import ApiError, Connection

log = logging.getLogger("dtf.nats")
PULL = 1000
CREDIT = 2 * PULL
PULL_BYTES = 8 * 1024 * 1024
HEARTBEAT_S = 0.5
SILENT_CHECKS_MAX = 4
"""So many heartbeats without a sign of life are too many."""
RETRY_S = 0.1
STREAM_NOT_FOUND = 10059
NO_PEERS = 10005
"""A cluster that is not complete yet."""
_ID_ONLY = b"NATS/1.0\r\nNats-Msg-Id: "
_ID_AT = len(_ID_ONLY)
_PULL_OVER = re.compile(rb"NATS/1.0 (?:408|409 (?:Message Size Exceeds MaxBytes|Batch Completed))")
_PENDING = re.compile(rb"Nats-Pending-Messages: (\d+)")


def message_headers(raw: bytes | None) -> Mapping[str, str] | None:
    """The headers of a stored message; None when there is none but the `Nats-Msg-Id` every writer
    of ours sets.
    """
    if not raw:
        return None
    if raw.startswith(_ID_ONLY) and raw.find(b"\r\n", _ID_AT) == len(raw) - 4:
        return None
    found: dict[str, str] = {}
    for line in raw.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found[name.strip().decode("utf-8", "replace")] = value.strip().decode(
                "utf-8", "replace"
            )
    return found or None


class LogReader:
    """One reader of one stream from one position. `batches` may be iterated once."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        filters: Sequence[str],
        after: int,
        *,
        name: str = "",
        deliver: str = "by_start_sequence",
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.filters = list(filters)
        self.last = after
        self.deliver = deliver
        self.waiting_at_start = 0
        """Messages that matched when the current consumer was made."""
        self._name = name or "reader"
        self._consumer = ""
        self._inbox = ""
        self._sid = -1
        self._expected = 1
        self._outstanding = 0
        self._arrived: list[Message] = []
        self._broken = True
        self._gap: LogGap | None = None
        self._heard = False
        self._silent_checks = 0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def batches(self) -> AsyncGenerator[list[Message], None]:
        """Lists of messages in order, each as soon as it arrived, without end.

        Errors as `EventLog.read`.
        """
        self.open()
        try:
            while True:
                arrived = await self.next_batch()
                if arrived:
                    yield arrived
        finally:
            self.close()

    def open(self) -> None:
        """Reconnects and silence are noticed from here to `close`."""
        self.connection.on_reconnect.append(self._on_doubt)
        self._check_silence()

    async def next_batch(self) -> list[Message]:
        """What has arrived; waits for something. [] says that a new consumer was made just now."""
        while not self._arrived:
            if self._gap is not None:
                raise self._gap
            if self._broken:
                await self._restart()
                return []
            self._give_credit()
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._take()

    async def aclose(self) -> None:
        """`close`, for `aclosing`."""
        self.close()

    def close(self) -> None:
        """The consumer is gone, or soon. Idempotent."""
        if self._on_doubt in self.connection.on_reconnect:
            self.connection.on_reconnect.remove(self._on_doubt)
        if self._timer is not None:
            self._timer.cancel()
        self._drop_consumer()

    def _take(self) -> list[Message]:
        arrived, self._arrived = self._arrived, []
        return arrived

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- from the parser -----------------------------------------------------------------------
    def _on_message(self, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self._heard = True
        if not reply.startswith(b"$JS.ACK."):
            self._on_status(headers or b"")
            return
        tokens = reply.split(b".")
        shift = 0 if len(tokens) == 9 else 2  # with domain and account hash in front
        if int(tokens[6 + shift]) != self._expected:
            self._on_doubt()
            return
        sequence = int(tokens[5 + shift])
        if not self.filters and sequence != self.last + 1:
            self._gap = self._gap or self._gap_error(sequence)
            self._wake()
            return
        self._expected += 1
        self._outstanding -= 1
        self.last = sequence
        self._arrived.append(
            Message(
                sequence, subject.decode(), data, int(tokens[7 + shift]), message_headers(headers)
            )
        )
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _on_status(self, headers: bytes) -> None:
        if headers.startswith(b"NATS/1.0 100"):
            return  # idle heartbeat
        pending = _PENDING.search(headers)
        if pending is None or not _PULL_OVER.match(headers):
            self._on_doubt()
            return
        self._outstanding -= int(pending[1])
        if self._waiter is not None:
            self._give_credit()

    def _on_doubt(self) -> None:
        self._broken = True
        self._wake()

    def _check_silence(self) -> None:
        self._silent_checks = 0 if self._heard or self._waiter is None else self._silent_checks + 1
        self._heard = False
        if self._silent_checks >= SILENT_CHECKS_MAX:
            self._on_doubt()
        self._timer = self._loop.call_later(HEARTBEAT_S, self._check_silence)

    # -- the consumer --------------------------------------------------------------------------
    def _give_credit(self) -> None:
        while self._outstanding <= CREDIT - PULL and not self._broken:
            request = b'{"batch":%d,"max_bytes":%d,"expires":20000000000,"idle_heartbeat":%d}' % (
                PULL,
                max(PULL_BYTES, 2 * self.connection.payload_max),
                int(HEARTBEAT_S * 1e9),
            )
            prefix = self.connection.options.js_prefix
            if not self.connection.send(
                f"{prefix}.CONSUMER.MSG.NEXT.{self.stream}.{self._consumer}", request, self._inbox
            ):
                self._broken = True
                return
            self._outstanding += PULL
            self._heard = True

    def _drop_consumer(self) -> None:
        if self._sid >= 0:
            self.connection.unlisten(self._sid)
            prefix = self.connection.options.js_prefix
            self.connection.send(f"{prefix}.CONSUMER.DELETE.{self.stream}.{self._consumer}")
            self._sid = -1

    async def _restart(self) -> None:
        """A consumer that starts at `last` + 1, however long that takes."""
        self._drop_consumer()
        while True:
            await self.connection.wait_connected()
            try:
                await self._create()
                return
            except ApiError as error:
                failure = self._api_failure(error)
                if failure is not None:
                    raise failure from error
            except LogUnavailable as error:
                log.info("%s: reader waits: %s", self.stream, error)
            await asyncio.sleep(RETRY_S)

    async def _create(self) -> None:
        if self.deliver == "by_start_sequence":
            await self._check_position()
        self._consumer = f"{self._name}_{random_id(8)}"
        self._inbox = self.connection.new_inbox()
        self._expected, self._outstanding = 1, 0
        self._broken = False
        self._sid = self.connection.listen(self._inbox, self._on_message)
        suffix = f"CONSUMER.CREATE.{self.stream}.{self._consumer}"
        if len(self.filters) == 1:
            suffix += f".{self.filters[0]}"
        try:
            made = await self.connection.api(
                suffix, {"stream_name": self.stream, "config": self._config(), "action": "create"}
            )
        except DtfError:
            self._broken = True
            self._drop_consumer()
            raise
        self.waiting_at_start = int(made.get("num_pending", 0))

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "name": self._consumer,
            "ack_policy": "none",
            "deliver_policy": self.deliver,
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 30_000_000_000,
        }
        if self.deliver == "by_start_sequence":
            config["opt_start_seq"] = self.last + 1
        if len(self.filters) == 1:
            config["filter_subject"] = self.filters[0]
        elif self.filters:
            config["filter_subjects"] = self.filters
        return config

    async def _check_position(self) -> None:
        """The stream still continues where this reader stands (protocol F7)."""
        state = (await self.connection.api(f"STREAM.INFO.{self.stream}"))["state"]
        first, last = int(state["first_seq"]), int(state["last_seq"])
        if self.last > last:
            raise LogGap(
                f"{self.stream} ends at {last}, but this reader has read up to {self.last}",
                remedy="The log was restored or replaced: rebuild from it.",
            )
        if not self.filters and self.last + 1 < first:
            raise self._gap_error(first)

    def _gap_error(self, found: int) -> LogGap:
        return LogGap(
            f"{self.stream} continues at {found} instead of {self.last + 1}: messages are gone",
            remedy="Read the archive for them, or rebuild.",
        )

    def _api_failure(self, error: ApiError) -> DtfError | None:
        """What to raise; None when another try may help."""
        if error.err_code == STREAM_NOT_FOUND:
            return NotFound(
                f"the server {self.connection.options.url} has no stream {self.stream}",
                remedy="Create the pool first: `dtf pool init`.",
            )
        if 400 <= error.code < 500 and error.err_code != NO_PEERS:
            return AppendRefused(f"{self.stream} refused a reader: {error}")
        return None
