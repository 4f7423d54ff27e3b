"""The event log on JetStream.

Rule: an append is one message with its id; what the broker said is what the caller hears.

No task, future or queue per message: answers come through the connection's one inbox and call
`done` from the parser.
"""

from __future__ import annotations

import base64
import calendar
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import msgspec

from ..errors import AppendRefused, DtfError, LogUnavailable, NotFound
from ..ports import Appended, LogTail, Message
from .log_reader import STREAM_NOT_FOUND, LogReader, message_headers
from .nats_client import Answer, ApiError, Connection, NoResponders
from .wildcards import subject_matches

NO_MESSAGE = 10037
TOO_MANY = 429
"""The stream has too much on its way just now."""


class _AckError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _AckError | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


class JetStreamLog:
    """`EventLog` over one stream. Cheap: make as many as needed on one connection."""

    def __init__(self, connection: Connection, stream_name: str) -> None:
        self.connection = connection
        self.stream = stream_name

    async def append(
        self, subject: str, data: bytes, message_id: str, *, timeout: float = 2.0
    ) -> Appended:
        """See `EventLog.append`."""
        future = self.connection.new_future()

        def done(result: Appended | Exception) -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.append_soon(subject, data, message_id, done, timeout=timeout)
        result: Appended = await future
        return result

    def append_soon(
        self,
        subject: str,
        data: bytes,
        message_id: str,
        done: Callable[[Appended | Exception], None],
        *,
        timeout: float = 2.0,
    ) -> None:
        """See `EventLog.append_soon`."""

        def answered(answer: Answer) -> None:
            if isinstance(answer, bytes):
                done(self._read_ack(answer))
            elif isinstance(answer, NoResponders):
                self._explain(subject, answer, done)
            else:
                done(answer)

        if "*" in subject or ">" in subject:
            refusal = AppendRefused(f"{subject[:200]!r} is not a subject")
            self.connection.call_soon(done, refusal)
            return
        headers = b"NATS/1.0\r\nNats-Msg-Id: %b\r\n\r\n" % message_id.encode()
        self.connection.ask(subject, data, answered, timeout, headers)

    def _read_ack(self, data: bytes) -> Appended | DtfError:
        try:
            ack = _decode_ack(data)
        except msgspec.DecodeError as error:
            return LogUnavailable(f"{self.stream}: the acknowledgement is not readable: {error}")
        error_ = ack.error
        if error_ is None:
            if ack.stream != self.stream:
                return AppendRefused(f"the subject belongs to {ack.stream!r}, not {self.stream!r}")
            return Appended(ack.seq, ack.duplicate)
        text = f"{self.stream}: {error_.description} ({error_.code}/{error_.err_code})"
        if 400 <= error_.code < 500 and error_.code != TOO_MANY:
            return AppendRefused(text)
        return LogUnavailable(text, remedy="Send it again; if it lasts, look at the server.")

    def _explain(
        self, subject: str, silence: DtfError, done: Callable[[Appended | Exception], None]
    ) -> None:
        """Tell a stream that is missing for good from a server that is still starting."""

        def answered(answer: Answer) -> None:
            if not isinstance(answer, bytes):
                done(silence)
                return
            info = msgspec.json.decode(answer)
            if info.get("error", {}).get("err_code") == STREAM_NOT_FOUND:
                done(self._no_stream(AppendRefused))
            elif "error" in info:
                done(silence)
            elif not any(
                subject_matches(pattern, subject) for pattern in info["config"].get("subjects", [])
            ):
                done(AppendRefused(f"the stream {self.stream} does not take the subject {subject}"))
            else:
                done(silence)

        self.connection.ask(
            f"{self.connection.options.js_prefix}.STREAM.INFO.{self.stream}", b"", answered
        )

    def _no_stream(self, kind: type[DtfError]) -> DtfError:
        return kind(
            f"the server {self.connection.options.url} has no stream {self.stream}",
            remedy="Create the pool first: `dtf pool init`.",
        )

    def read(
        self, filters: Sequence[str], after: int, *, name: str = ""
    ) -> AsyncGenerator[list[Message], None]:
        """See `EventLog.read`."""
        return LogReader(self.connection, self.stream, filters, after, name=name).batches()

    async def tail(self) -> LogTail:
        """See `EventLog.tail`.

        Raises `NotFound` without a stream, `LogUnavailable` without an answer.
        """
        try:
            state = (await self.connection.api(f"STREAM.INFO.{self.stream}"))["state"]
        except ApiError as error:
            raise self._api_failure(error) from error
        return LogTail(max(1, int(state["first_seq"])), int(state["last_seq"]))

    async def get(self, sequence: int) -> Message | None:
        """See `EventLog.get`."""
        try:
            answer = await self.connection.api(f"STREAM.MSG.GET.{self.stream}", {"seq": sequence})
        except ApiError as error:
            if error.err_code == NO_MESSAGE or sequence < 1:
                return None
            raise self._api_failure(error) from error
        return _stored_message(answer["message"])

    def _api_failure(self, error: ApiError) -> DtfError:
        if error.err_code == STREAM_NOT_FOUND:
            return self._no_stream(NotFound)
        return LogUnavailable(str(error), remedy="Try again; if it lasts, look at the server.")


def _stored_message(stored: dict[str, Any]) -> Message:
    headers = base64.b64decode(stored["hdrs"]) if stored.get("hdrs") else None
    return Message(
        int(stored["seq"]),
        stored["subject"],
        base64.b64decode(stored.get("data", "")),
        _time_ns(stored["time"]),
        message_headers(headers),
    )


def _time_ns(text: str) -> int:
    """Unix nanoseconds of an RFC 3339 time in UTC; `datetime` would lose the nanoseconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return seconds * 1_000_000_000 + int(fraction[:9].ljust(9, "0") or 0)
