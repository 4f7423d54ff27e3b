"""A pool of one agent for tests: the log in memory, and a leader that says what the test tells it
to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from dtf.core import events as e
from dtf.core.adapters.memory import MemoryBlobs, MemoryLog
from dtf.core.codec import decode_batch, decode_telemetry, encode_batch
from dtf.core.ids import attempt_token
from dtf.core.model import ABSENT, TaskSpec
from dtf.core.subjects import Subjects
from dtf.worker.agent import Agent, Links, WorkerOptions

E = TypeVar("E", bound=e.Event)
LIMIT_S = 30.0
"""No fact takes longer; a test that waits this long has failed."""


class WorkerPool:
    """The log, the blob store and the agent under test."""

    def __init__(self, data_dir: Path, **options: Any) -> None:
        self.log = MemoryLog()
        self.telemetry = MemoryLog()
        self.output = MemoryLog()
        self.blobs = MemoryBlobs()
        self.subjects = Subjects("main")
        self.connected = True
        self.links = Links(
            self.log, self.telemetry, self.output, self.blobs,
            identity=lambda: ("SERVER", 7), connected=lambda: self.connected, on_reconnect=[],
        )  # fmt: skip
        given = {"name": "w1", "data_dir": data_dir, "detect": False, "cpu_milli": 2000}
        self.options = WorkerOptions(**{**given, **options})
        self.agent = Agent(None, self.options, self.links)
        self.term = 1
        self._sent: set[tuple[str, str]] = set()
        self._nonce = 0

    # -- the leader -------------------------------------------------------------------------------
    def assign(
        self,
        spec: TaskSpec,
        *,
        task: str = "t-0",
        run: str = "run1",
        attempt: int = 1,
        params: Any = None,
        devices: list[str] | None = None,
        incarnation: str | None = None,
    ) -> str:
        """The task is assigned to the agent; its token."""
        self._nonce += 1
        token = attempt_token(task, attempt, self.term, f"n{self._nonce}")
        group = (run, task.rpartition("-")[0])
        event = e.TaskAssigned(
            term=self.term,
            run=run,
            token=token,
            incarnation=incarnation or self.agent.machine.incarnation,
            devices=devices or [],
            spec=None if group in self._sent else spec,
            params=ABSENT if params is None else msgspec.Raw(msgspec.json.encode(params)),
        )
        self._sent.add(group)
        self.log.write(self.subjects.assign("cpu", self.options.name), encode_batch([event]))
        return token

    def say(self, event: e.Event) -> None:
        """A ruling addressed to the agent."""
        self.log.write(self.subjects.to_worker(self.options.name), encode_batch([event]))

    def revoke(self, token: str, mode: Any, run: str = "run1") -> None:
        self.say(e.AttemptRevoked(term=self.term, run=run, token=token, mode=mode))

    # -- what the agent says ----------------------------------------------------------------------
    def told(self, kind: type[E], token: str | None = None) -> list[E]:
        """Events of a type in the log so far, of one attempt or of all."""
        return [
            event
            for message in self.log.messages
            for event in decode_batch(message.data)
            if isinstance(event, kind) and (token is None or getattr(event, "token", "") == token)
        ]

    async def until(self, fact: Callable[[], Any]) -> Any:
        """The fact, once it is true."""
        async with asyncio.timeout(LIMIT_S):
            while not (found := fact()):  # noqa: ASYNC110 (the facts lie in many places)
                await asyncio.sleep(0.002)
        return found

    async def finished(self, token: str) -> e.AttemptFinished:
        """The end of an attempt."""
        ends = await self.until(lambda: self.told(e.AttemptFinished, token))
        return ends[0]  # type: ignore[no-any-return]

    async def run(self, spec: TaskSpec, **given: Any) -> e.AttemptFinished:
        """The end of a task, assigned now."""
        return await self.finished(self.assign(spec, **given))

    def beats(self) -> list[e.Heartbeat]:
        return [
            event
            for message in self.telemetry.messages
            for event in decode_telemetry(message.data)
            if isinstance(event, e.Heartbeat)
        ]

    def live_output(self) -> list[e.OutputChunk]:
        return [
            event
            for message in self.output.messages
            for event in decode_telemetry(message.data)
            if isinstance(event, e.OutputChunk)
        ]


@asynccontextmanager
async def worker_pool(data_dir: Path, **options: Any) -> AsyncIterator[WorkerPool]:
    """An agent that has joined; it is stopped at the end, and no process of it is left."""
    pool = WorkerPool(data_dir, **options)
    running = asyncio.create_task(pool.agent.run())
    try:
        joined = asyncio.create_task(pool.agent.joined.wait())
        async with asyncio.timeout(LIMIT_S):
            await asyncio.wait([running, joined], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield pool
    finally:
        pool.agent.stop(drain=False)
        await running
