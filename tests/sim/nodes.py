"""The processes of a simulated pool: real coordinators, agents, clients, ledgers. Rule: a
node decides nothing here; it is wired, started, and watched for how it ends.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from dtf.coordinator.service import Coordinator
from dtf.core import events as e
from dtf.core.client import Client
from dtf.core.codec import encode_batch
from dtf.core.errors import DtfError
from dtf.core.fold import Fold, Judged
from dtf.core.ids import run_id
from dtf.core.model import TaskSpec
from dtf.core.open_run import OpenRun
from dtf.core.ports import Message
from dtf.core.submit import Submission, submission_messages
from dtf.projections import rows
from dtf.projections.ledger import Ledger
from dtf.projections.memo import load, save, settle_in
from dtf.worker.agent import Agent
from dtf.worker.links import Links
from dtf.worker.options import WorkerOptions

from .log import LeasePort, Port
from .loop import VirtualLoop
from .network import Link
from .oracle import Broken
from .workload import groups_of

if TYPE_CHECKING:
    from .plan import Step
    from .world import World

POOL = "main"


class LoopClock:
    """Monotonic time of the loop; the wall clock of a node is nobody's business."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def monotonic_ns(self) -> int:
        return int(self._loop.time() * 1e9)

    def time_ns(self) -> int:
        raise Broken("a wall clock was asked for a decision")


class WatchedFold(Fold):
    """A coordinator's fold, compared with the truth."""

    world: World

    def apply(self, message: Message) -> Judged:
        judged = super().apply(message)
        self.world.compare(self.pool, "a coordinator")
        return judged


def coordinator(world: World, link: Link) -> Coordinator:
    """A real coordinator."""
    made = Coordinator(
        Port(world.log, link),
        Port(world.telemetry, link),
        LeasePort(world.lease, link),
        pool=POOL,
        name=link.life.name,
        clock=LoopClock(world.loop),  # type: ignore[arg-type]
        broker=link,  # type: ignore[arg-type]
    )
    made.fold.__class__ = WatchedFold
    made.fold.world = world  # type: ignore[attr-defined]
    return made


def agent(world: World, link: Link) -> Agent:
    """A real agent with hands of its own."""
    port = Port(world.log, link)
    links = Links(
        log=port,
        telemetry=Port(world.telemetry, link),
        output=port,
        blobs=None,  # type: ignore[arg-type]
        identity=lambda: (link.server_id, link.client_id),
        connected=lambda: link.connected,
        on_reconnect=link.on_reconnect,
    )
    options = WorkerOptions(name=link.life.name, data_dir=Path("nowhere"), pool=POOL)
    return Agent(None, options, links)


# -- projector -------------------------------------------------------------------------------------
class Disk:
    """What a projector's file holds; it survives kills."""

    def __init__(self) -> None:
        self.position = 0
        self.snapshot: tuple[bytes, bytes] | None = None
        self.facts: dict[str, list[Any]] = {}


async def projector(world: World, link: Link, disk: Disk) -> None:
    """Read, and commit rows, position and sometimes a snapshot in one transaction (F8)."""
    ledger = load(POOL, *disk.snapshot) if disk.snapshot is not None else Ledger(POOL)
    if ledger.pool.sequence == disk.position:
        settle_in(ledger)
    if ledger.pool.sequence:
        world.saw("a projector went on from its snapshot")
    port = Port(world.log, link)
    async with aclosing(port.read([], ledger.pool.sequence)) as batches:
        async for batch in batches:
            for message in batch:
                rows.feed(ledger, message)
                world.compare(ledger.pool, "the projector")
                if message.sequence == disk.position:
                    settle_in(ledger)
            if ledger.pool.sequence > disk.position and link.rng.random() < 0.3:
                commit(ledger, disk, snapshot=link.rng.random() < 0.3)


def commit(ledger: Ledger, disk: Disk, *, snapshot: bool) -> None:
    """One transaction."""
    for table, found in ledger.take().facts.items():
        disk.facts.setdefault(table, []).extend(found)
    disk.position = ledger.pool.sequence
    if snapshot:
        disk.snapshot = save(ledger)


# -- publishers ------------------------------------------------------------------------------------
class Publisher:
    """A client that submits, cancels and follows."""

    def __init__(self, world: World, link: Link) -> None:
        self.world, self.link = world, link
        self.name = link.life.name
        config = SimpleNamespace(pool=POOL, publisher=self.name)
        self.client = Client(link, config)  # type: ignore[arg-type]
        port = Port(world.log, link)
        self.client.log = self.client._runs.log = port

    async def run(self) -> None:
        """Does as told, until killed."""
        await asyncio.get_running_loop().create_future()

    async def act(self, step: Step) -> None:
        """One step of the plan; what cannot be done is told by an error of dtf's."""
        try:
            await getattr(self, f"_{step.kind}")(step, *step.text.split(" ", 1))
        except DtfError as error:
            self.world.note(f"{self.name}: {step.kind} failed: {error}")

    async def _submit(self, step: Step, key: str, jobs: str = "") -> None:
        submission = Submission(publisher=self.name, key=key, groups=groups_of(jobs))
        run = await self.client.submit(submission)
        self.world.acknowledged(run, submission.tasks)
        await self._follow(run)

    _empty = _submit

    async def _again(self, step: Step, key: str, jobs: str = "") -> None:
        """The same key once more; perhaps with other tasks, or after all was over."""
        submission = Submission(publisher=self.name, key=key, groups=groups_of(jobs))
        await self._follow(await self.client.submit(submission))

    async def _parts(self, step: Step, key: str, jobs: str = "") -> None:
        submission = Submission(publisher=self.name, key=key, groups=groups_of(jobs))
        run, messages = submission_messages(submission, POOL)
        events = [event for _, some in messages for event in some]
        if step.value < 0.5:
            self.link.rng.shuffle(events)
        events += events[:1]
        for event in events:
            await self.client.put_event(self.client.subjects.run(self.name, run), event)
            await asyncio.sleep(self.link.rng.uniform(0, 0.3))
        self.world.acknowledged(run, submission.tasks)
        await self._follow(run)

    async def _stream(self, step: Step, key: str, jobs: str = "") -> None:
        run = OpenRun(self.client, publisher=self.name, key=key)
        for group in groups_of(jobs):
            await run.add(group.spec, [{"i": i} for i in range(group.size)])
            await asyncio.sleep(self.link.rng.uniform(0, 1.5))
        if step.value < 0.2:
            self.world.saw("the publisher of a streamed run went silent")
            return
        await run.seal()
        self.world.acknowledged(run.run, run.tasks)
        await self._follow(run.run)

    async def _invalid(self, step: Step, key: str, jobs: str = "") -> None:
        run = run_id(self.name, key)
        part = e.TasksSubmitted(part=0, group="g", spec=TaskSpec(command=[]))
        events = e.RunSubmitted(key=key), part, e.RunSealed(parts=1, tasks=1)
        await self.client.put_event(self.client.subjects.run(self.name, run), *events)
        await self._follow(run)

    async def _cancel(self, step: Step, key: str, what: str) -> None:
        run = run_id(self.name, key)
        task = None if what == "run" else f"g0-{int(step.value * 3)}"
        if step.value < 0.5:
            await self.client.cancel(run, task)
        else:
            event = e.CancelRequested(task=task)
            await self.client.put_event(self.client.subjects.run(self.name, run), event)

    async def _meddle(self, step: Step, owner: str, key: str) -> None:
        """Somebody else's run: nothing of this may count."""
        run = run_id(owner, key)
        part = e.TasksSubmitted(part=99, group="stray", spec=TaskSpec(command=["x"]))
        subject = self.client.subjects.run(self.name, run)
        await self.client.put_event(subject, part, e.CancelRequested())
        await self.client.put_event(subject, e.RunSubmitted(key="mine now"))

    async def _follow(self, run: str) -> None:
        """Whoever submitted waits for the end, as `dtf run` does."""
        self.world.followed(await self.client.wait(run))


def forgery(world: World, draw: float) -> None:
    """The server's own reply lands on a subject of the log (F5)."""
    stored = world.log.messages[int(draw * len(world.log.messages))]
    data, pool = stored.data, world.truth.pool
    workers = [worker for worker in pool.workers.values() if not worker.ended]
    if draw < 0.3 and workers and pool.runs:
        worker, run = workers[0], next(iter(pool.runs))
        given = e.TaskAssigned(
            term=pool.term, run=run, token=f"g0-0.1.{pool.term}.evil",
            incarnation=worker.incarnation, spec=TaskSpec(command=["short"]),
        )  # fmt: skip
        data = encode_batch([given])
        stored = stored._replace(subject=f"dtf.{POOL}.assign.cpu.{worker.name}")
    elif draw < 0.6:
        claim = e.LeaderElected(term=world.truth.pool.term + 1, coordinator="evil", nonce="evil")
        stored, data = stored._replace(subject=f"dtf.{POOL}.leader"), encode_batch([claim])
    headers = {"Nats-Stream": "x", "Nats-Sequence": "1"}
    world.log.store(stored.subject, data, f"forged{world.log.last}", headers)
