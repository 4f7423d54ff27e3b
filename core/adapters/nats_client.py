"""A NATS connection as dtf uses it.

Rule: every request is answered exactly once, by data or by an error, on the loop.

Nothing is queued while the server is away: a request then fails at once with `LogUnavailable`, and
whoever must not lose it asks again under the same message id. nats-py itself is imported by
`connect` only.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import AppendRefused, DtfError, InvalidConfig, LogUnavailable, ServerUnavailable
from ..ids import random_id
from .nats_options import NatsOptions, client_settings

if TYPE_CHECKING:
    from .safe_client import Handler, SafeClient

__all__ = ["Answer", "ApiError", "Connection", "NatsOptions", "NoResponders", "connect"]

log = logging.getLogger("dtf.nats")
PUBLISH_DENIED = re.compile(r'publish to "([^"]+)"')
SUBJECT = re.compile(r"\S+")
"""White space would break the framing; wildcards are legal in what is asked of the server."""
SCAN_S = 0.1
"""How often unanswered requests are checked for their limit."""


class NoResponders(LogUnavailable):
    """Nobody listens on the subject now: no stream takes it, or JetStream is still starting."""


class ApiError(DtfError):
    """JetStream's own no. `code` is like HTTP's, `err_code` names the case."""

    def __init__(self, subject: str, code: int, err_code: int, description: str) -> None:
        self.code, self.err_code, self.description = code, err_code, description
        super().__init__(f"{subject}: {description} ({code}/{err_code})")


Answer = bytes | DtfError
Done = Callable[[Answer], None]


class Connection:
    """One connection that reconnects for ever. Made by `connect`; end it with `aclose`.

    `on_reconnect` and `on_disconnect` hold callbacks, called from the event loop.
    """

    def __init__(self, options: NatsOptions, nc: SafeClient) -> None:
        self.options = options
        self.nc = nc
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_disconnect: list[Callable[[], None]] = []
        self.closed = False
        self.last_error = ""
        self._prefix = f"{options.inbox_prefix}.{random_id(6)}."
        self._prefix_bytes = self._prefix.encode()
        self._prefix_length = len(self._prefix)
        self._counter = itertools.count()
        self._asked: dict[bytes, tuple[float, str, Done]] = {}
        self._scan: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()

    # -- facts ---------------------------------------------------------------------------------
    @property
    def connected(self) -> bool:
        return bool(self.nc.is_connected)

    @property
    def server_id(self) -> str | None:
        """Id of the server this connection is on now; changes on reconnect."""
        value = self.nc._server_info.get("server_id") if self.connected else None
        return str(value) if value else None

    @property
    def client_id(self) -> int | None:
        """The server's number for this connection; changes on reconnect."""
        return self.nc._client_id if self.connected else None

    @property
    def clustered(self) -> bool:
        """Whether the server says it is one of several."""
        return bool(self.nc._server_info.get("cluster"))

    @property
    def payload_max(self) -> int:
        """Most bytes of one message, headers included, the server takes."""
        return int(self.nc._max_payload)

    # -- asking --------------------------------------------------------------------------------
    def ask(
        self, subject: str, data: bytes, done: Done, timeout: float = 2.0, headers: bytes = b""
    ) -> None:
        """Send a request; `done` is called once from the loop with the answer's data or the error.

        No task.

        Errors: `LogUnavailable` (no connection, no answer in `timeout` seconds, disconnected
        meanwhile), `NoResponders`, `AppendRefused` (too large, no permission, not a subject).
        """
        if SUBJECT.fullmatch(subject) is None:
            refusal: DtfError = AppendRefused(f"{subject[:200]!r} is not a subject")
        elif len(data) + len(headers) > self.payload_max:
            refusal = AppendRefused(
                f"{len(data)} bytes for {subject} are more than the server's {self.payload_max}",
                remedy="Send less in one message, or raise max_payload of the server.",
            )
        else:
            token = b"%x" % next(self._counter)
            reply = self._prefix_bytes + token
            if self.nc.post(_publish_command(subject.encode(), reply, headers, data)):
                self._asked[token] = (self._loop.time() + timeout, subject, done)
                if self._scan is None:
                    self._scan = self._loop.call_later(SCAN_S, self._scan_limits)
                return
            refusal = self._unavailable(f"no connection to {self.options.url}")
        self._loop.call_soon(done, refusal)

    async def request(
        self, subject: str, data: bytes = b"", timeout: float = 2.0, headers: bytes = b""
    ) -> bytes:
        """The answer's data. Errors as `ask`."""
        future: asyncio.Future[bytes] = self._loop.create_future()

        def done(answer: Answer) -> None:
            if not future.done():
                if isinstance(answer, bytes):
                    future.set_result(answer)
                else:
                    future.set_exception(answer)

        self.ask(subject, data, done, timeout, headers)
        return await future

    async def api(
        self, suffix: str, payload: object | None = None, timeout: float = 5.0
    ) -> dict[str, Any]:
        """JetStream's answer to an API call. Raises `ApiError` for its no, and what `ask` gives."""
        data = b"" if payload is None else msgspec.json.encode(payload)
        raw = await self.request(f"{self.options.js_prefix}.{suffix}", data, timeout)
        answer: dict[str, Any] = msgspec.json.decode(raw)
        error = answer.get("error")
        if error:
            raise ApiError(
                suffix,
                error.get("code", 0),
                error.get("err_code", 0),
                error.get("description", ""),
            )
        return answer

    def send(self, subject: str, data: bytes = b"", reply: str = "") -> bool:
        """Publish without an answer; False when not connected. For pulls and beats."""
        return self.nc.post(_publish_command(subject.encode(), reply.encode(), b"", data))

    def listen(self, subject: str, handler: Handler, queue: str = "") -> int:
        """`handler(subject, reply, data, headers)` is called by the parser until `unlisten(id)`.

        Of all listeners with the same `queue`, one gets each message.
        """
        return self.nc.listen(subject, handler, queue)

    def unlisten(self, sid: int) -> None:
        """Ends what `listen` began."""
        self.nc.unlisten(sid)

    def call_soon(self, callback: Callable[[Any], None], value: object) -> None:
        """`callback(value)` is called at the next tick."""
        self._loop.call_soon(callback, value)

    def new_future(self) -> asyncio.Future[Any]:
        """A future on this connection's loop."""
        return self._loop.create_future()

    def new_inbox(self) -> str:
        """A subject nobody else uses."""
        return f"{self.options.inbox_prefix}.{random_id(16)}"

    async def wait_connected(self) -> None:
        """Returns when connected; raises `LogUnavailable` when closed."""
        while not self.connected:
            if self.closed:
                raise self._unavailable("the connection is closed")
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(future)
            await future

    async def aclose(self) -> None:
        """Closed for good; open requests fail with `LogUnavailable`. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._fail_all("the connection is closed")
        if self._scan is not None:
            self._scan.cancel()
        self.nc._write_pending()
        await self.nc.close()
        self._wake()

    # -- facts from the client -----------------------------------------------------------------
    def _start(self) -> None:
        self.nc.listen(self._prefix + "*", self._on_answer)

    def _on_answer(self, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        asked = self._asked.pop(subject[self._prefix_length :], None)
        if asked is None:
            return
        if not data and headers and headers.startswith(b"NATS/1.0 503"):
            asked[2](NoResponders(f"nobody answers on {asked[1]}", remedy="Is JetStream enabled?"))
        else:
            asked[2](data)

    def _scan_limits(self) -> None:
        now = self._loop.time()
        late = [token for token, asked in self._asked.items() if asked[0] <= now]
        self._scan = None
        for token in late:
            _, subject, done = self._asked.pop(token)
            done(self._unavailable(f"no answer in time on {subject}"))
        if self._asked and self._scan is None and not self.closed:
            self._scan = self._loop.call_later(SCAN_S, self._scan_limits)

    def _fail_all(self, why: str) -> None:
        asked, self._asked = self._asked, {}
        for _, _, done in asked.values():
            done(self._unavailable(why))

    def _unavailable(self, why: str) -> LogUnavailable:
        return LogUnavailable(why, remedy="It may or may not be stored: send it again.")

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _on_disconnected(self) -> None:
        self.nc.drop_pending()
        self._fail_all(f"lost the connection to {self.options.url}")
        for callback in list(self.on_disconnect):
            callback()

    async def _on_reconnected(self) -> None:
        self._wake()
        for callback in list(self.on_reconnect):
            callback()

    async def _on_error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        self.last_error = text
        denied = PUBLISH_DENIED.search(text) if "permissions violation" in text else None
        if denied is None:
            log.info("%s: %s", self.options.name, text)
            return
        log.warning("%s: %s", self.options.name, text)
        for token, (_, subject, done) in list(self._asked.items()):
            if subject.lower() == denied[1]:
                del self._asked[token]
                done(AppendRefused(f"no permission to publish to {subject}"))


def _publish_command(subject: bytes, reply: bytes, headers: bytes, data: bytes) -> bytes:
    if headers:
        return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
            subject,
            reply,
            len(headers),
            len(headers) + len(data),
            headers,
            data,
        )
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(data), data)


async def connect(
    options: NatsOptions,
    *,
    on_closed: Callable[[], None] | None = None,
    patience_s: float = 2.0,
) -> Connection:
    """A connection that is up.

    Tries for `patience_s`, then raises `ServerUnavailable`. Wrong credentials raise `InvalidConfig`
    at once. `on_closed` is called when the connection ends for good without `aclose`.
    """
    from .safe_client import Error, SafeClient  # lazy: nats-py costs 0.1-0.5 s to import

    nc = SafeClient()
    connection = Connection(options, nc)
    refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def on_error(error: Exception) -> None:
        await connection._on_error(error)
        text = str(error).lower()
        if ("authorization" in text or "authentication" in text) and not refused.done():
            refused.set_result(str(error))

    async def on_nats_closed() -> None:
        if not connection.closed and on_closed is not None:
            on_closed()

    settings = client_settings(options) | {"error_cb": on_error, "closed_cb": on_nats_closed}
    settings["disconnected_cb"] = connection._on_disconnected
    settings["reconnected_cb"] = connection._on_reconnected
    opening: asyncio.Task[None] = asyncio.ensure_future(nc.connect(**settings))
    ready = False
    try:
        async with asyncio.timeout(patience_s):
            await asyncio.wait((opening, refused), return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
            connection._start()
            ready = True
            return connection
    except TimeoutError:
        pass
    except (OSError, ValueError, Error) as error:
        raise InvalidConfig(f"cannot connect to {options.url}: {error}") from error
    finally:
        if not ready:
            await _abandon(opening, connection)
    if refused.done():
        raise InvalidConfig(
            f"{options.url} refused the credentials of {options.name!r} ({refused.result()})",
            remedy="Check user, password, token or credentials file.",
        )
    raise ServerUnavailable(
        f"no NATS server answers at {options.url} ({connection.last_error or 'no answer'})",
        remedy="Start one with `dtf up`, or pass --server with the address of yours.",
    )


async def _abandon(opening: asyncio.Task[None], connection: Connection) -> None:
    """Nothing of a connection that did not come up is left."""
    opening.cancel()
    await asyncio.wait((opening,))
    if not opening.cancelled():
        opening.exception()  # the caller tells it
    if connection.nc._flush_queue is not None:
        await connection.aclose()
