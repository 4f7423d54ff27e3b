"""The query service: SQL over NATS request and reply, beside the projector.

Rule: asking never holds up projecting, and no request goes without an answer.

Two queries run at once, each on a thread and a cursor of its own; more wait, too many are refused.
A request and the replies are described in `core/query.py`; services of one pool share the requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import msgspec

from ..core.adapters.nats_client import Connection
from ..core.errors import DtfError
from ..core.query import QueryError, QueryReply, QueryRequest
from ..core.subjects import Subjects
from .errors import DatabaseBroken
from .projector import Projector
from .queries import Header, Refused, fetch, json_row, running, time_limit

log = logging.getLogger("dtf.query")
QUERIES_AT_ONCE = 2
WAITING_MAX = 64
ROWS_MAX = 1_000_000
TIMEOUT_MS_MAX = 600_000
REPLY_BYTES = 384 * 1024
"""A reply is sent when it has grown so large; one row alone may make it larger, up to the server's
limit."""
_decode_request = msgspec.json.Decoder(QueryRequest).decode
Send = Callable[[bytes], None]


class QueryService:
    """Answers the queries of one pool from the projector's file."""

    def __init__(self, connection: Connection, projector: Projector) -> None:
        self._connection = connection
        self._projector = projector
        self._subject = Subjects(projector.pool).query
        self._threads = ThreadPoolExecutor(QUERIES_AT_ONCE, thread_name_prefix="dtf-query")
        self._turn = asyncio.Semaphore(QUERIES_AT_ONCE)
        self._asked = 0
        self._group: anyio.abc.TaskGroup | None = None
        self.listening = asyncio.Event()
        """Set once no request can be missed."""

    async def run(self) -> None:
        """Answer until cancelled; queries that run then are interrupted."""
        listening = self._connection.nc.listen(self._subject, self._on_request, queue="query")
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                self.listening.set()
                await anyio.sleep_forever()
        finally:
            self._group = None
            self._connection.nc.unlisten(listening)
            self._threads.shutdown(wait=False)

    def _on_request(self, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        """From the parser: nothing may be raised here."""
        if not reply or self._group is None:
            return
        send = self._sender(reply.decode())
        try:
            request = _decode_request(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            send(_refusal(Refused("request", f"not a query request: {error}")))
            return
        if self._asked >= QUERIES_AT_ONCE + WAITING_MAX:
            busy = Refused("busy", "too many queries wait already", remedy="Try again later.")
            send(_refusal(busy))
            return
        self._asked += 1
        self._group.start_soon(self._answer, request, send, name="query")

    def _sender(self, reply: str) -> Send:
        def send(data: bytes) -> None:
            self._connection.send(reply, data)  # dropped without a connection, as any reply is

        return send

    async def _answer(self, request: QueryRequest, send: Send) -> None:
        timeout_s = min(max(request.timeout_ms, 1), TIMEOUT_MS_MAX) / 1000
        loop = asyncio.get_running_loop()
        stop: list[Callable[[], None]] = []
        try:
            with anyio.fail_after(timeout_s):
                await self._projector.reached(request.at_least)
                await self._turn.acquire()
            try:
                answer = loop.run_in_executor(
                    self._threads, self._query, request, timeout_s, loop, send, stop
                )
                await self._finished(answer, stop)
            finally:
                self._turn.release()
        except TimeoutError:
            late = f"position {self._projector.position} of the projection, no turn, or both"
            send(_refusal(Refused("time", f"the query's time was over while waiting: {late}")))
        except DtfError as error:
            if isinstance(error, Refused) and error.code == "damage":
                self._projector.distrust(DatabaseBroken(str(error)))
            send(_refusal(error))
        finally:
            self._asked -= 1

    async def _finished(self, answer: asyncio.Future[None], stop: list[Callable[[], None]]) -> None:
        """Waits for the thread, also when cancelled: its cursor must be done before the file is."""
        try:
            await asyncio.shield(answer)
        except asyncio.CancelledError:
            for each in stop:
                each()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([answer])
            raise

    def _query(
        self,
        request: QueryRequest,
        timeout_s: float,
        loop: asyncio.AbstractEventLoop,
        send: Send,
        stop: list[Callable[[], None]],
    ) -> None:
        """On a thread: run the query and send its rows. Raises `DtfError`."""
        rows_max = min(max(request.rows_max, 0), ROWS_MAX)
        limit = self._connection.payload_max
        with self._projector.reading() as cursor, time_limit(cursor, timeout_s) as interrupt:
            stop.append(interrupt)
            with running(cursor, request.sql, list(request.params)) as header:
                reply = _Reply(header, limit, lambda d: loop.call_soon_threadsafe(send, d))
                for rows, truncated in fetch(cursor, rows_max):
                    reply.add(rows, truncated)
                reply.end()
            stop.clear()


class _Reply:
    """Rows on their way into messages of bounded size."""

    def __init__(self, header: Header, limit: int, send: Callable[[bytes], Any]) -> None:
        self._head = msgspec.json.encode({"columns": header.columns, "types": header.types})[:-1]
        self._limit = limit
        self._send = send
        self._rows: list[bytes] = []
        self._bytes = 0
        self._truncated = False

    def add(self, rows: list[tuple[Any, ...]], truncated: bool) -> None:
        self._truncated = truncated
        for row in rows:
            data = json_row(row)
            if len(data) + len(self._head) + 256 > self._limit:
                raise Refused(
                    "rows",
                    f"one row has {len(data)} bytes, more than a message of this server holds",
                    remedy="Select fewer columns, or parts of the long ones.",
                )
            if self._rows and self._bytes + len(data) > min(REPLY_BYTES, self._limit - 4096):
                self._flush(last=False)
            self._rows.append(data)
            self._bytes += len(data) + 1

    def end(self) -> None:
        self._flush(last=True)

    def _flush(self, *, last: bool) -> None:
        tail = msgspec.json.encode(
            {"last": last, "truncated": last and self._truncated, "error": None}
        )
        self._send(b'%b,"rows":[%b],%b' % (self._head, b",".join(self._rows), tail[1:]))
        self._rows, self._bytes = [], 0


def _refusal(error: DtfError) -> bytes:
    code = getattr(error, "code", "unavailable")
    return msgspec.json.encode(QueryReply(error=QueryError(code, str(error), error.remedy)))
