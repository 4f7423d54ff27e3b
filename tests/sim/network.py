"""Twins of the server's connections: in order on each, late, cut, lost, and hinted at when closed.

Rule: what a connection carries arrives in order or not at all; only the server's answer is proof.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import Context, copy_context
from types import SimpleNamespace
from typing import Any

import msgspec
from dtf.core.errors import DtfError, LogUnavailable
from dtf.core.server import DISCONNECT_SUBJECT

from .loop import NODE, Life, VirtualLoop

SERVER = Context()
"""What the server does belongs to no node."""
Handler = Callable[[bytes, bytes, bytes, bytes | None], None]


class Network:
    """The server's side: whether it is up, and who is connected."""

    def __init__(self, loop: VirtualLoop, seed: int, hints: str) -> None:
        self.loop = loop
        self.seed = seed
        self.hints = hints
        self.up = True
        self.starts = 1
        self.skew_ns = 0
        self.links: list[Link] = []
        """Of everybody alive."""
        self.on_up: list[Callable[[], None]] = []
        self._clients = 0

    @property
    def server_id(self) -> str:
        return f"S{self.starts}"

    def time_ns(self) -> int:
        """The server's wall clock, which may jump."""
        return 1_700_000_000_000_000_000 + int(self.loop.time() * 1e9) + self.skew_ns

    def connect(self, life: Life) -> Link:
        """A new process connects."""
        link = Link(self, life)
        self.links = [old for old in self.links if not old.life.dead]
        self.links.append(link)
        return link

    def next_client(self) -> int:
        self._clients += 1
        return self._clients

    def closed(self, link: Link, client_id: int) -> None:
        """The server saw a connection end: whoever listens may hear of it."""
        if self.hints == "never" or not self.up:
            return
        delay = 0.01 if self.hints == "soon" else link.rng.uniform(1, 6)
        self.loop.call_later(delay, self.hint, link.life.name, client_id, context=SERVER)

    def hint(self, name: str, client_id: int) -> None:
        """A DISCONNECT is told to every listener, true or not."""
        server, client = {"id": self.server_id}, {"id": client_id, "name": name}
        event = {"server": server, "client": client, "reason": "Client Closed"}
        data = msgspec.json.encode(event)
        for link in self.links:
            link.tell(DISCONNECT_SUBJECT, data)

    def listed(self) -> list[dict[str, str]]:
        alive = [link for link in self.links if not (link.life.dead or link.hidden)]
        return [{"name": link.life.name} for link in alive]

    def go_down(self) -> None:
        self.up = False

    def come_up(self) -> None:
        """The server is back under a new id; everybody alive connects anew."""
        self.up = True
        self.starts += 1
        for told in self.on_up:
            told()
        for link in list(self.links):
            link.reconnect()


class Link:
    """One connection of one life of a node. Also what dtf's code calls a `Connection`."""

    clustered = False
    payload_max = 1024 * 1024

    def __init__(self, network: Network, life: Life) -> None:
        self.network = network
        self.loop = network.loop
        self.life = life
        self.rng = random.Random(f"{network.seed}/{life.name}/{life.number}")
        self.client_id = network.next_client()
        self.server_id = network.server_id
        self.on_reconnect: list[Callable[[], None]] = []
        self.cut = False
        self.hidden = False
        self.slow_until = -1.0
        self.slow_s = 0.0
        self._out_at = self._in_at = 0.0
        self._out: list[Callable[[], None]] = []
        self._in: list[tuple[Context, Callable[..., None], tuple[Any, ...]]] = []
        self._listeners: dict[int, tuple[str, Handler, Context]] = {}
        self.nc = self
        self.context = Context()
        self.context.run(NODE.set, life)
        self.on_new: list[Callable[[], None]] = []
        """What the server sends again on a new connection."""
        self.unanswered: dict[str, tuple[str, int]] = {}
        """Subject -> (message id, term of the writer) of what is not acknowledged yet."""
        self.find: Callable[[Any], dict[str, Any]] = dict
        """JetStream's index of the log."""
        self.options = SimpleNamespace(url="the simulator")

    # -- what code under test sees -----------------------------------------------------------------
    @property
    def connected(self) -> bool:
        return self.network.up

    def listen(self, subject: str, handler: Handler, queue: str = "") -> int:
        number = len(self._listeners) + 1
        self._listeners[number] = (subject, handler, copy_context())
        return number

    def unlisten(self, number: int) -> None:
        self._listeners.pop(number, None)

    async def wait_connected(self) -> None:
        while not self.network.up:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def api(self, suffix: str, payload: Any = None, timeout: float = 5.0) -> dict[str, Any]:
        found: dict[str, Any] = await self.ask(lambda: self.find(payload), timeout)
        return found

    async def request(self, subject: str, data: bytes, timeout: float = 2.0) -> bytes:
        """The only question asked this way is who is connected."""
        connections = await self.ask(lambda: {"connections": self.network.listed()}, timeout)
        return msgspec.json.encode({"data": connections})

    # -- moving things -----------------------------------------------------------------------------
    def delay(self) -> float:
        """How long the next thing takes: mostly around a millisecond, sometimes much longer."""
        draw = self.rng.random()
        if draw < 0.02:
            return self.rng.uniform(0.02, 0.3)
        return 0.0002 + draw * 0.003

    def send(self, work: Callable[[], None], late_s: float = 0.0) -> None:
        """`work` is done by the server when this arrives, if it does."""
        if self.life.dead:
            return
        self._out_at = max(self._out_at, self.loop.time() + self.delay()) + late_s
        self.loop.call_at(self._out_at, self._arrive, work, context=SERVER)

    def _arrive(self, work: Callable[[], None]) -> None:
        if self.cut:
            self._out.append(work)
        elif self.network.up:
            work()

    def answer(
        self, context: Context, tell: Callable[..., None], *args: Any, late_s: float = 0.0
    ) -> None:
        """`tell` is called in the node when this arrives there, if it does."""
        if self.cut:
            self._in.append((context, tell, args))
            return
        at = max(self._in_at, self.loop.time() + self.delay())
        self._in_at = at
        self.loop.call_at(at + late_s, tell, *args, context=context)

    async def ask(self, work: Callable[[], Any], timeout_s: float = 2.0) -> Any:
        """The server's answer. Raises `LogUnavailable` without one."""
        if not self.network.up:
            raise LogUnavailable("not connected")
        future: asyncio.Future[Any] = self.loop.create_future()
        context = copy_context()

        def tell(result: Any) -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        def at_server() -> None:
            try:
                result = work()
            except DtfError as error:
                result = error
            self.answer(context, tell, result)

        self.send(at_server)
        timer = self.loop.call_later(timeout_s, tell, LogUnavailable("no answer"))
        try:
            return await future
        finally:
            timer.cancel()

    def tell(self, subject: str, data: bytes) -> None:
        """A message outside JetStream for whoever listens in this node."""
        for wanted, handler, context in list(self._listeners.values()):
            if wanted == subject:
                self.answer(context, handler, subject.encode(), b"", data, None)

    # -- what happens to it ------------------------------------------------------------------------
    def cut_off(self) -> None:
        self.cut = True

    def heal(self, *, lost: bool) -> None:
        """It carries on: with what was on its way, or as a new connection without that."""
        if not self.cut:
            return
        self.cut = False
        out, self._out = self._out, []
        arrived, self._in = self._in, []
        if lost:
            self.reconnect()
            return
        for work in out:
            self.loop.call_soon(self._arrive, work, context=SERVER)
        for context, tell, args in arrived:
            self.loop.call_soon(tell, *args, context=context)

    def reconnect(self) -> None:
        """A new connection of the same process; the old one is told closed."""
        if self.life.dead:
            return
        old = self.client_id
        self.client_id, self.server_id = self.network.next_client(), self.network.server_id
        self.network.closed(self, old)
        for told in list(self.on_new):
            told()
        for told in list(self.on_reconnect):
            self.loop.call_soon(told, context=self.context)
