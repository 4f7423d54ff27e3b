"""nats-py with its known defects mended, and a synchronous path beside it.

Rule: one override per defect, each with a test.

Touches private methods, so `nats-py` is pinned to 2.16.0. Importing this module imports nats (0.1 s
to 0.5 s): only `nats_client.connect` does so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from .deferred import defer

defer("nats", "js")

from nats.aio.client import Client  # noqa: E402
from nats.aio.subscription import Subscription  # noqa: E402
from nats.errors import Error  # noqa: E402

from .fast_parser import FastParser  # noqa: E402

__all__ = ["Error", "Handler", "SafeClient"]

log = logging.getLogger("dtf.nats")
Handler = Callable[[bytes, bytes, bytes, bytes | None], None]
"""Called from the parser with (subject, reply, data, raw headers or None)."""


class SafeClient(Client):
    """A NATS client whose read loop cannot die unnoticed and that publishes and delivers without a
    task.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = FastParser(self)
        self._handlers: dict[int, Handler] = {}
        self._kicked = False

    # -- the synchronous path ------------------------------------------------------------------
    def post(self, command: bytes) -> bool:
        """The command goes out with everything else of this loop tick; False (and nothing is kept)
        when not connected.

        Unlike `publish` nothing is buffered for after a reconnect: no ghosts.
        """
        if self._status != self.CONNECTED:
            return False
        self._pending.append(command)
        self._pending_data_size += len(command)
        if not self._kicked:
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._write_pending)
        return True

    def _write_pending(self) -> None:
        self._kicked = False
        if self._pending and self._status == self.CONNECTED and self._transport:
            pending, self._pending = self._pending, []
            self._pending_data_size = 0
            try:
                self._transport.writelines(pending)
            except (
                OSError,
                RuntimeError,
            ) as error:  # uvloop's way to say that it was lost just now
                log.info("not sent: %s", error)

    def drop_pending(self) -> None:
        """Nothing that was queued before a disconnect is sent after it."""
        self._pending = []
        self._pending_data_size = 0

    def listen(self, subject: str, handler: Handler, queue: str = "") -> int:
        """Messages on `subject` call `handler` from the parser until `unlisten`; survives
        reconnects. Of all listeners with the same `queue`, one gets each message.
        """
        self._sid += 1
        sid = self._sid
        self._subs[sid] = Subscription(self, sid, subject, queue)
        self._handlers[sid] = handler
        self.post(b"SUB %b %b %d\r\n" % (subject.encode(), queue.encode(), sid))
        return sid

    def unlisten(self, sid: int) -> None:
        """The handler is not called again."""
        self._handlers.pop(sid, None)
        if self._subs.pop(sid, None) is not None:
            self.post(b"UNSUB %d\r\n" % sid)

    def deliver(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> bool:
        """The message was handed to its `listen` handler; False when it has none."""
        handler = self._handlers.get(sid)
        if handler is None:
            return False
        try:
            handler(subject, reply, data, headers)
        except Exception:  # boundary: a handler's bug must not end the read loop of everybody
            log.exception("handler of %r failed", subject)
        return True

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        if not self.deliver(sid, subject, reply, data, headers):
            await super()._process_msg(sid, subject, reply, data, headers or b"")

    # -- mended defects (nats.md 11) -----------------------------------------------------------
    async def _process_pong(self) -> None:
        """1: a PONG for a cancelled flush does not raise InvalidStateError into the read loop."""
        if self._pongs:
            future = self._pongs.pop(0)
            if not future.done():
                future.set_result(True)
            self._pongs_received += 1
        self._pings_outstanding = 0

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """3: the PING stays behind queued PUBs, so `flush` is a barrier."""
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(b"PING\r\n")
        await self._flush_pending()

    async def _process_err(self, err_msg: str) -> None:
        """4: whatever the server complains about, a connected client reconnects instead of closing
        for good.
        """
        message = err_msg.lower()
        if self.is_connected and "permissions violation" not in message:
            error = Error("nats: " + err_msg.strip("'"))
            self._err = error
            await self._error_cb(error)
            await self._process_op_err(error)
            return
        await super()._process_err(err_msg)

    async def _read_loop(self) -> None:
        """2: a read loop that ends while the client believes to be connected starts a reconnect."""
        await super()._read_loop()
        task = asyncio.current_task()
        if (
            self._status == self.CONNECTED
            and task is not None
            and self._reading_task is task
            and not task.cancelling()
        ):
            await self._process_op_err(Error("nats: read loop stopped"))
