"""One open run on a pool: shards out, facts in. Rule: one writer, one reader, no polling.

Lives in the link's thread. The planner decides; here it is only carried out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ...core import events as e
from ...core.client import Client, open_client
from ...core.codec import decode_batch, decode_telemetry
from ...core.config import Config, load_config
from ...core.errors import DtfError
from ...core.follow import RunView
from ...core.ids import random_id, to_name
from ...core.model import Output, Requirement, TaskSpec
from ...core.open_run import OpenRun
from ...core.pool_process import PoolInUse
from ...core.run_reader import RunReader
from ...core.shard_files import SplitMode
from ...core.shards import Planner
from ..leader import demand_leader
from .code_state import code_roots, code_state
from .follower import Follower
from .options import shell_variables
from .seen import Ended, OutputSeen, Progress

if TYPE_CHECKING:
    from .link import Link, Work

WALL_MS = 24 * 3_600_000
"""A shard has no limit of its own: plain pytest has none either."""
QUIET_S = 10.0
"""No fact for so long at the beginning: say what is waited for."""
SLOTS_MAX = 4096
LIVE_LATE_S = 0.05
"""How much later than the end of a shard its live output may come."""


class PoolRun:
    """The run of one pytest session."""

    def __init__(self, link: Link) -> None:
        self.link, self.wishes = link, link.wishes
        self.slots = 0
        self.shards = 0
        self.follower: Follower | None = None
        self.id = ""
        self.began_s = time.monotonic()
        self._tell = link.inbox.put
        self._wake = asyncio.Event()
        self._client: Client | None = None
        self._closing = False
        self._heard: set[str] = set()
        """Tasks whose output came live."""
        self._fetches: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """The run is over and everything was told. Raises `DtfError`."""
        flags = {"server": self.wishes.server, "workers": self.wishes.workers}
        config = load_config(flags, cwd=self.link.place.directory)
        async with self._connected(config) as (client, local):
            self._client = client
            code = asyncio.ensure_future(self._code(local))
            history = asyncio.ensure_future(self._history(client))
            slots = asyncio.ensure_future(self._slots(client))
            try:
                work = await asyncio.wrap_future(self.link.work)
                spec = await self._spec(client, work, local)
                common = self._common(work, spec, await code)
                self.slots = await slots
                await self._carry_out(client, work, spec, common, await history)
            finally:
                for each in (history, slots, code):
                    each.cancel()

    def cancel(self, reason: str, stored: Callable[[], None]) -> None:
        """Ask the pool to end the run; `stored` is called once that is durable or impossible."""
        client = self._client
        if client is None or not self.id:
            stored()
            return
        self._closing = True
        subject = client.subjects.run(client.config.publisher, self.id)
        request = client.put_event(subject, e.CancelRequested(reason=reason[:256]))
        asyncio.ensure_future(request).add_done_callback(lambda _: stored())

    # -- before the run ------------------------------------------------------------------------
    @asynccontextmanager
    async def _connected(self, config: Config) -> AsyncIterator[tuple[Client, bool]]:
        """(a client, whether its pool is on this machine); the pool is started where none runs."""
        if config.server is not None:
            async with open_client(config, name="dtf-pytest") as client:
                await demand_leader(client)
                yield client, False
            return
        pool = PoolInUse(config, self.wishes.workers)
        try:
            found = await asyncio.to_thread(pool.wait)
            config = msgspec.structs.replace(
                config, server=found.url, user=found.user, password=found.password
            )
            async with open_client(config, name="dtf-pytest") as client:
                yield client, True
        finally:
            pool.release(0)  # it ends by itself, and nobody waits for that

    async def _code(self, local: bool) -> str:
        """What the state of the code here is; "" where a bundle says it."""
        if not local or self.wishes.bundle:
            return ""
        return await asyncio.to_thread(code_state, code_roots(self.link.place.rootdir))

    async def _history(self, client: Client) -> dict[str, dict[str, int]]:
        """What the pool remembers of the suite; nothing when it does not answer."""
        try:
            return await client.durations(self.wishes.suite, self.wishes.hardware)
        except DtfError:
            return {}

    async def _slots(self, client: Client) -> int:
        """Shards of this run that the living workers run at once; at least 1."""
        subject = client.subjects.worker("*")
        reader = RunReader(client.connection, client.log, client.subjects)
        newest = await reader.find({"last_by_subj": subject})
        joined: dict[str, int] = {}
        if newest:
            async with aclosing(client.log.read([subject], 0, name="workers")) as batches:
                async for batch in batches:
                    for message in batch:
                        for event in decode_batch(message.data):
                            self._count(joined, message.subject.rpartition(".")[2], event)
                    if batch[-1].sequence >= newest:
                        break
        total = max(1, min(sum(joined.values()), SLOTS_MAX))
        return total if self.wishes.workers is None else min(total, self.wishes.workers)

    def _count(self, joined: dict[str, int], worker: str, event: object) -> None:
        if isinstance(event, e.WorkerJoined):
            fits = self.wishes.hardware in event.hardware
            each = self._require().cpu_milli
            joined[worker] = max(1, event.cpu_milli // each) if fits else 0
        elif isinstance(event, e.WorkerLeft | e.WorkerDraining):
            joined.pop(worker, None)

    def _require(self, **labels: str) -> Requirement:
        return Requirement(hardware=self.wishes.hardware, labels=labels)

    async def _spec(self, client: Client, work: Work, local: bool) -> TaskSpec:
        place = self.link.place
        isolation = "process" if self.wishes.isolation == "shard" else self.wishes.isolation
        here = local and not self.wishes.bundle
        env = {"PYTEST_ADDOPTS": ""}
        if here:
            env |= shell_variables(os.environ, sys.path[:1], str(place.directory))
        spec = TaskSpec(
            runner="pytest",
            args=work.args,
            isolation=cast("Any", isolation),
            preload=self.wishes.preload,
            history=self.wishes.suite[:256],
            env=env | self.wishes.env,
            require=self._require(),
            wall_ms=WALL_MS,
            infra_retries=3,
        )
        if here:
            return msgspec.structs.replace(
                spec, directory=str(place.directory), python=sys.executable
            )
        from ...core.bundle import pack

        limit = client.config.bundle_limit
        packed = await asyncio.to_thread(pack, place.rootdir, limit)
        return msgspec.structs.replace(spec, bundle=await client.put_bundle(packed.path))

    def _common(self, work: Work, spec: TaskSpec, code: str) -> dict[str, Any]:
        """Parameters that every shard has."""
        place = self.link.place
        common: dict[str, Any] = {"code": code} if spec.bundle is None else {}
        if spec.bundle is not None:
            common["cwd"] = os.path.relpath(place.directory, place.rootdir)
        if work.lastfailed:
            common["lastfailed"] = work.lastfailed
        if work.stop_after:
            common["stop_after"] = work.stop_after
        if self.wishes.timeout_s is not None:
            common["timeout_s"] = self.wishes.timeout_s
        return common

    # -- the run -------------------------------------------------------------------------------
    async def _carry_out(
        self,
        client: Client,
        work: Work,
        spec: TaskSpec,
        common: dict[str, Any],
        history: dict[str, dict[str, int]],
    ) -> None:
        split = "file" if self.wishes.split in ("shard", "module") else self.wishes.split
        planner = Planner(
            work.files,
            slots=self.slots,
            history=history,
            selected=work.selected,
            split=cast("SplitMode", split),
        )
        follower = self.follower = Follower(planner, work.files, self._tell)
        run = OpenRun(
            client,
            publisher=client.config.publisher,
            key=f"pytest-{random_id(16)}",
            name=to_name(self.wishes.suite),
            labels={"pytest": self.wishes.suite[:200]},
        )
        self.id = run.run
        sid = self._listen(client, follower) if work.live else 0
        follower.fresh += planner.start()
        await self._submit(run, spec, common)
        reading = asyncio.ensure_future(self._read(client, follower))
        try:
            await self._keep_submitting(run, spec, common, reading)
            if self._fetches:
                await asyncio.wait(self._fetches)
            self._tell_end(follower)
            if not self._closing:
                await run.seal()
            if follower.stopped is not None:
                self.cancel("pytest was ended on a worker", _nothing)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            if sid:
                client.connection.nc.unlisten(sid)

    async def _keep_submitting(
        self, run: OpenRun, spec: TaskSpec, common: dict[str, Any], reading: asyncio.Future[None]
    ) -> None:
        """Returns once every shard is over and the processes they left are closed."""
        follower = self.follower
        assert follower is not None
        closing = False
        while True:
            woken = asyncio.ensure_future(self._wake.wait())
            limit = QUIET_S if not follower.settled else None
            both: set[asyncio.Future[Any]] = {woken, reading}
            done, _ = await asyncio.wait(both, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self._tell(Progress(f"waiting for workers: {self.shards} shards are queued"))
            woken.cancel()
            self._wake.clear()
            if reading.done():
                reading.result()
                return
            await self._submit(run, spec, common)
            self._show_stored(follower)
            if follower.stopped is not None:
                return
            planned = follower.planner.done and not follower.elsewhere
            over = follower.settled >= self.shards and (planned or follower.hopeless)
            if over and follower.hosts and not closing:
                closing = True
                await self._close_hosts(run, spec, common, follower)
            elif over:
                return

    async def _submit(self, run: OpenRun, spec: TaskSpec, common: dict[str, Any]) -> None:
        """Every shard the planner has dealt is a task of the run."""
        follower = self.follower
        assert follower is not None
        while follower.fresh:
            shards, follower.fresh = follower.fresh, []
            self.shards += len(shards)
            tasks = await run.add(spec, [self._params(each.params, common) for each in shards])
            for shard, task in zip(shards, tasks, strict=True):
                follower.bind(shard, task)
        while follower.elsewhere:
            asked = follower.elsewhere.pop()
            self.shards += 1
            require = Requirement(hardware=asked.hardware, memory_bytes=asked.memory_bytes)
            there = msgspec.structs.replace(spec, require=require)
            files = [{"path": asked.path, "ids": asked.ids}]
            (task,) = await run.add(there, [self._params({"files": files}, common)])
            follower.bind_elsewhere(asked, task)

    def _params(self, shard: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
        """The parameters of one task; ids are wanted where a part of a file was asked for."""
        selected = self.link.work.result().selected
        if any(file["path"] in selected for file in shard["files"]):
            common = {**common, "ids_wanted": True}
        return {**shard, **common}

    async def _close_hosts(
        self, run: OpenRun, spec: TaskSpec, common: dict[str, Any], follower: Follower
    ) -> None:
        """Session fixtures that are still set up are torn down where they are."""
        hosts, follower.hosts = sorted(follower.hosts), set()
        self.shards += len(hosts)
        for host, worker in hosts:
            there = msgspec.structs.replace(spec, require=self._require(worker=worker))
            for task in await run.add(there, [{**common, "files": [], "close": host}]):
                follower.bind(None, task)

    async def _read(self, client: Client, follower: Follower) -> None:
        """Feeds every event of the run to the follower until the run is over."""
        view = RunView(
            self.id,
            client.config.pool,
            on_attempt=follower.on_attempt,
            on_ruling=follower.on_ruling,
        )
        reader = RunReader(client.connection, client.log, client.subjects)
        async with aclosing(reader.read(view)) as views:
            async for _ in views:
                self._wake.set()
        if view.rejected:
            raise DtfError(f"the pool refused the run: {view.rejected}")

    def _tell_end(self, follower: Follower) -> None:
        for each in () if self._closing or follower.cut_short else follower.lost_cases():
            self._tell(each)
        self._tell(Ended(None, tuple(follower.missing), follower.stopped))

    def _listen(self, client: Client, follower: Follower) -> int:
        """Live output of every shard is told as it comes; the subscription's number."""
        subject = f"{client.subjects.prefix}output.{self.id}.*.*"

        def heard(topic: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
            task = topic.decode().split(".")[-2]
            for chunk in decode_telemetry(data):
                if isinstance(chunk, e.OutputChunk):
                    worker = follower.worker_of(task)
                    self._heard.add(task)
                    self._tell(OutputSeen(task, worker, chunk.text, chunk.last))

        return client.connection.nc.listen(subject, heard)

    def _show_stored(self, follower: Follower) -> None:
        """Output of short shards is not sent live, but read when they have ended."""
        ended, follower.outputs = follower.outputs, []
        for task, output in ended if self.link.work.result().live else ():
            fetch = asyncio.ensure_future(self._fetch(task, follower.worker_of(task), output))
            self._fetches.add(fetch)
            fetch.add_done_callback(self._fetches.discard)

    async def _fetch(self, task: str, worker: str, output: Output) -> None:
        await asyncio.sleep(LIVE_LATE_S)  # the streams of output and of events are not ordered
        if task in self._heard or self._client is None:
            return
        text = output.tail
        if output.digest is not None and len(text.encode()) < output.bytes:
            with contextlib.suppress(DtfError):  # then its last lines are all there is
                text = (await self._client.blobs.get(output.digest)).decode(errors="replace")
        self._tell(OutputSeen(task, worker, text, True))


def _nothing() -> None:
    """Nobody waits."""
