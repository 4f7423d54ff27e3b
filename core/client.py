"""The client: what the command line, the dashboard and publishers in Python use.

Rule: submitted means acknowledged, and acknowledged means durable; following costs one consumer for
a run, whatever its size.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from .adapters.blobs import JetStreamBlobs
from .adapters.jetstream import JetStreamLog
from .adapters.nats_client import Connection, connect
from .ask_durations import DurationsRequest, ask_durations
from .codec import decode_batch, encode_batch
from .config import Config
from .errors import LogUnavailable, NotFound, UserError
from .events import CancelRequested, Event, PoolConfigured
from .follow import RunView
from .ids import random_id
from .ports import BlobStore, EventLog
from .query import QueryRequest, Table, ask_query
from .run_reader import RunReader
from .state import Pool
from .subjects import Subjects
from .submit import Submission, submission_messages

PATIENCE_S = 30.0
"""How long a write is tried again before it is given up."""
RETRY_S = 0.1


class Client:
    """A connection to one pool.

    Made by `open_client`; usable from one event loop, by many tasks at once.
    """

    def __init__(self, connection: Connection, config: Config) -> None:
        self.connection = connection
        self.config = config
        self.subjects = Subjects(config.pool)
        self.log: EventLog = JetStreamLog(connection, self.subjects.log_stream)
        self.telemetry: EventLog = JetStreamLog(connection, self.subjects.telemetry_stream)
        self.output: EventLog = JetStreamLog(connection, self.subjects.output_stream)
        self.blobs: BlobStore = JetStreamBlobs(connection, self.subjects.blob_bucket)
        self._runs = RunReader(connection, self.log, self.subjects)

    # -- writing -------------------------------------------------------------------------------
    async def submit(self, submission: Submission) -> str:
        """The run is stored durably; its id. The same submission again is the same run.

        Raises `InvalidSubmission` and `InvalidName` before anything is sent, `AppendRefused` when
        the log says no, and `LogUnavailable` when nothing answered for `PATIENCE_S`: then submit
        again, under the same key.
        """
        run, messages = submission_messages(submission, self.config.pool)
        for subject, events in messages:
            await self.put_event(subject, *events)
        return run

    async def put_event(self, subject: str, *events: Event) -> int:
        """The events are stored durably as one message; its log sequence. Errors as `submit`."""
        return await self._append(subject, encode_batch(events))

    async def put_bundle(self, path: Path) -> str:
        """The archive is in the blob store; its digest. Stored once, however often it is put."""
        return await self.blobs.put_file(path)

    async def cancel(self, run: str, task: str | None = None, reason: str = "") -> None:
        """The request to cancel the run, or one task of it, is stored durably.

        Raises `NotFound` when there is no such run or task, or it is over already, and `UserError`
        when the run belongs to another publisher (protocol A8: whoever asks in vain is told).
        """
        view = await self.view(run)
        if view.done:
            ended = view.verdict or "rejected"
            raise NotFound(f"run {run} is over already: {ended}", remedy="Nothing was changed.")
        if task is not None:
            _demand_open(view, task)
        me = self.config.publisher
        if view.publisher != me and me not in await self._admins():
            raise UserError(
                f"run {run} belongs to {view.publisher!r}, and {me!r} is no admin of the pool",
                remedy=f"Cancel as its owner: --publisher {view.publisher}",
            )
        await self.put_event(
            self.subjects.run(me, run), CancelRequested(task=task, reason=reason[:256])
        )

    async def _append(self, subject: str, data: bytes) -> int:
        """Send under one random id until it is acknowledged (F6); a time-out is never a no."""
        message_id = random_id(26)
        again = False
        failure = LogUnavailable(f"{subject}: no answer")
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    try:
                        stored = await self.log.append(subject, data, message_id)
                    except LogUnavailable as problem:
                        failure, again = problem, True
                        await self._pause()
                        continue
                    if again or not stored.duplicate:
                        return stored.sequence
                    message_id = random_id(26)  # somebody else's id: ours was not stored
        except TimeoutError:
            raise LogUnavailable(
                f"not acknowledged in {PATIENCE_S:.0f} s: {failure}",
                remedy="It may be stored. Submit again under the same key: it is the same run.",
            ) from failure

    async def _pause(self) -> None:
        if self.connection.connected:
            await asyncio.sleep(RETRY_S)
        else:
            await self.connection.wait_connected()

    # -- following -----------------------------------------------------------------------------
    async def follow(
        self,
        run: str,
        *,
        keep_values: bool = False,
        keep_cases: bool = False,
        keep_passed: bool = False,
    ) -> AsyncGenerator[RunView]:
        """The view of a run, first as it stands now, then after each change, until the run is over.

        It is one object that changes. One consumer on the log, however many tasks; close the
        iterator (`aclosing`) to free it early. Raises `NotFound` when no such run was ever
        submitted, or its key was released.
        """
        view = RunView(
            run,
            self.config.pool,
            keep_values=keep_values,
            keep_cases=keep_cases,
            keep_passed=keep_passed,
        )
        async with aclosing(self._runs.read(view)) as views:
            async for each in views:
                yield each

    async def view(self, run: str, **keep: bool) -> RunView:
        """The run as it stands now. Arguments and errors as `follow`."""
        async with aclosing(self.follow(run, **keep)) as views:
            return await anext(views)

    async def wait(self, run: str, *, timeout_s: float | None = None, **keep: bool) -> RunView:
        """The run once it is over, or as it stands after `timeout_s` (`done` tells).

        Errors as `follow`.
        """
        view: RunView | None = None
        try:
            async with asyncio.timeout(timeout_s):
                async with aclosing(self.follow(run, **keep)) as views:
                    async for each in views:
                        view = each
        except TimeoutError:
            if view is None:
                view = RunView(run, self.config.pool)
        assert view is not None
        return view

    async def _admins(self) -> list[str]:
        """Who may cancel any run, as the newest setting says."""
        admins = Pool(self.config.pool).admins
        subject = self.subjects.pool_rulings
        newest = await self._runs.find({"last_by_subj": subject})
        if not newest:
            return admins
        async with aclosing(self.log.read([subject], 0)) as batches:
            async for batch in batches:
                for event in (event for each in batch for event in decode_batch(each.data)):
                    if isinstance(event, PoolConfigured) and event.admins is not None:
                        admins = list(event.admins)
                if batch[-1].sequence >= newest:
                    break
        return admins

    # -- asking --------------------------------------------------------------------------------
    async def query(
        self,
        sql: str,
        params: Sequence[Any] = (),
        *,
        rows_max: int = 10_000,
        timeout_s: float = 10.0,
        at_least: int = 0,
    ) -> Table:
        """Rows of the pool's history, by the query service, once it knows the log up to the
        sequence `at_least`.

        Raises `QueryRefused` and `Unavailable`.
        """
        request = QueryRequest(
            sql=sql,
            params=list(params),
            rows_max=rows_max,
            timeout_ms=int(timeout_s * 1000),
            at_least=at_least,
        )
        return await ask_query(self.connection, self.subjects.query, request)

    async def durations(self, history: str, hardware: str) -> dict[str, dict[str, int]]:
        """How long the cases of a history last on a class of hardware: file -> {case id: us}.

        The id "" of a file is 1 when fixtures of its modules, classes or packages are in use.
        From any coordinator; {} when none answers in half a second.
        """
        request = DurationsRequest(history=history, hardware=hardware)
        return await ask_durations(self.connection, self.subjects.durations, request)


@asynccontextmanager
async def open_client(config: Config, *, name: str = "dtf") -> AsyncIterator[Client]:
    """A connected client; closed on leaving.

    Raises `ServerUnavailable` when no server answers or no local pool runs, `InvalidConfig` for
    wrong credentials.
    """
    connection = await connect(config.nats_options(name))
    try:
        yield Client(connection, config)
    finally:
        await connection.aclose()


def _demand_open(view: RunView, task: str) -> None:
    """Raises `NotFound` unless the task is one of the run's and not settled."""
    found = view.find(task)
    if found is None:
        raise NotFound(
            f"run {view.run} has no task {task!r}", remedy=f"List them with: dtf task ls {view.run}"
        )
    if found.verdict is not None:
        raise NotFound(
            f"task {task} is over already: {found.verdict.value}", remedy="Nothing was changed."
        )
