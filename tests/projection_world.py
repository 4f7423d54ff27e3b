"""Random logs: plausible enough to reach every corner of the fold, and rude.

A `World` writes messages and folds them at once, so that it knows what could come next. One seed is
one log.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec
from dtf.core import events as e
from dtf.core.codec import encode_batch
from dtf.core.fold import Fold
from dtf.core.ids import attempt_token, run_id
from dtf.core.model import (
    Axis,
    Case,
    Cause,
    Device,
    Held,
    Measurement,
    Output,
    Placement,
    Requirement,
    TaskSpec,
    Usage,
    Verdict,
)
from dtf.core.ports import Message
from dtf.core.state import Attempt, Run

WORKERS = ("w1", "w2", "w3")
PUBLISHERS = ("ann", "bob", "admin")
SPECS = (
    TaskSpec(command=["true"]),
    TaskSpec(runner="python", target="a:b", require=Requirement(hardware="cuda")),
    TaskSpec(runner="python", target="x.py", retries=2),
)
START_NS = 1_764_000_000_000_000_000


class World:
    """A log that grows by random steps."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.log: list[Message] = []
        self.fold = Fold("main")
        self.now_ns = START_NS
        self.keys = 0
        self.incarnations = 0
        self.finished: list[tuple[str, str, tuple[int, int], Verdict]] = []

    def grow(self, steps: int) -> list[Message]:
        """The log after so many more steps, the first of which make the pool."""
        if not self.log:
            if self.random.random() < 0.3:
                self.write("run.ann.early", [e.RunSealed(parts=0, tasks=0)])
            self.write("pool", [e.PoolCreated(uuid="u-1", name="main")])
            self.write("leader", [e.LeaderElected(term=1, coordinator="c1", nonce="n1")])
        actions, weights = zip(*ACTIONS, strict=True)
        for _ in range(steps):
            self.random.choices(actions, weights)[0](self)
        return self.log

    def write(
        self, subject: str, events: Sequence[e.Event], headers: dict[str, str] | None = None
    ) -> None:
        self.write_raw(subject, encode_batch(events), headers)

    def write_raw(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.now_ns += self.random.randrange(-50_000, 3_000_000)  # clocks are set back, too
        message = Message(len(self.log) + 1, f"dtf.main.{subject}", data, self.now_ns, headers)
        self.log.append(message)
        judged = self.fold.apply(message)
        for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
            if not void and type(event) is e.AttemptFinished and judged.subject is not None:
                at = (message.sequence, index)
                self.finished.append((judged.subject.run, event.token, at, event.verdict))

    # -- picking -----------------------------------------------------------------------------------
    @property
    def term(self) -> int:
        term = self.fold.pool.term
        return term if self.random.random() < 0.97 else term - 1

    def some_run(self) -> Run | None:
        runs = [run for run in self.fold.pool.runs.values() if not run.settled]
        if runs and self.random.random() < 0.95:
            return self.random.choice(runs)
        every = list(self.fold.pool.runs.values())
        return self.random.choice(every) if every else None

    def some_attempt(self) -> Attempt | None:
        opened = list(self.fold.pool.open.values())
        return self.random.choice(opened) if opened else None

    def some_task(self, run: Run) -> str:
        groups = list(run.groups.values())
        if run.tasks and self.random.random() < 0.6:
            return self.random.choice(list(run.tasks))
        if not groups:
            return "nothing-0"
        group = self.random.choice(groups)
        return f"{group.name}-{self.random.randrange(group.size + (self.random.random() < 0.02))}"


# -- publishers ------------------------------------------------------------------------------------
def tasks(world: World, part: int) -> e.TasksSubmitted:
    r = world.random
    form = r.randrange(4)
    return e.TasksSubmitted(
        part=part,
        group=f"g{part}" if r.random() < 0.97 else "g0",
        spec=r.choice(SPECS) if r.random() < 0.97 else TaskSpec(),
        label=r.choice(["", "resnet", "bert"]),
        items=[msgspec.Raw(b'{"i":%d}' % i) for i in range(r.randrange(1, 5))]
        if form == 1
        else None,
        axes=[
            Axis(name="model", values=[msgspec.Raw(b'"a"'), msgspec.Raw(b'"b"')]),
            Axis(name="batch", values=[msgspec.Raw(b"%d" % i) for i in (1, 4, 16)]),
        ]
        if form == 2
        else None,
        count=r.randrange(1, 9) if form == 3 else None,
    )


def size(event: e.TasksSubmitted) -> int:
    return len(event.items or ()) or (6 if event.axes else 0) or event.count or 1


def submit(world: World) -> None:
    r = world.random
    owner = r.choice(PUBLISHERS)
    if r.random() < 0.9:
        world.keys += 1
    key = f"k{world.keys}"
    run = run_id(owner, key)
    writer = owner if r.random() < 0.95 else r.choice(PUBLISHERS)
    parts = [tasks(world, part) for part in range(r.randrange(0, 4))]
    wrong = r.random() < 0.05
    events: list[e.Event] = [
        e.RunSubmitted(key=key, name=r.choice(["", "nightly"]), labels={"branch": "main"}),
        *parts,
        e.RunSealed(parts=len(parts), tasks=sum(map(size, parts)) + wrong),
    ]
    if r.random() < 0.3:
        r.shuffle(events)
    if r.random() < 0.6:
        world.write(f"run.{writer}.{run}", events)
        return
    for event in events:
        if r.random() < 0.9:
            world.write(f"run.{writer}.{run}", [event] * r.choice([1, 1, 1, 2]))
        if r.random() < 0.2:
            world.grow(1)


def stranger(world: World) -> None:
    owner, thief = world.random.sample(PUBLISHERS, 2)
    key = f"k{world.keys + 1}"
    run = run_id(owner, key)
    world.write(f"run.{thief}.{run}", [tasks(world, 0), e.RunSealed(parts=1, tasks=1)])
    if world.random.random() < 0.5 and (found := world.fold.pool.runs.get(run)) and found.groups:
        assign_task(world, found, next(iter(found.groups)) + "-0")
    if world.random.random() < 0.7:
        world.keys += 1
        event = tasks(world, 0)
        world.write(
            f"run.{owner}.{run}",
            [e.RunSubmitted(key=key), event, e.RunSealed(parts=1, tasks=size(event))],
        )
        fresh = world.fold.pool.runs[run]
        if world.random.random() < 0.7 and event.group in fresh.groups:
            assign_task(world, fresh, f"{event.group}-0")


def cancel(world: World) -> None:
    run = world.some_run()
    if run is None:
        return
    task = world.some_task(run) if world.random.random() < 0.7 else None
    owner = run.publisher if world.random.random() < 0.8 else world.random.choice(PUBLISHERS)
    world.write(f"run.{owner}.{run.id}", [e.CancelRequested(task=task, reason="no more")])


# -- workers ---------------------------------------------------------------------------------------
def join(world: World) -> None:
    r, pool = world.random, world.fold.pool
    name = r.choice(WORKERS)
    world.incarnations += 1
    mine = [a for a in pool.open.values() if a.worker == name]
    held = [
        Held(run=a.task.run.id, token=a.token) for a in r.sample(mine, r.randrange(len(mine) + 1))
    ]
    event = e.WorkerJoined(
        incarnation=f"i{world.incarnations}",
        hardware=["cpu", "cuda"],
        cpu_milli=4000,
        memory_bytes=2**33,
        devices=[Device(id="GPU-1", hardware="cuda", index=0, memory_bytes=2**34)],
        labels={"site": "here"},
        held=held,
    )
    world.write(f"worker.{name}", [event] * r.choice([1, 1, 1, 2]))


def leave(world: World) -> None:
    r, pool = world.random, world.fold.pool
    if not pool.workers:
        return
    worker = r.choice(list(pool.workers.values()))
    choice = r.random()
    if choice < 0.3:
        world.write(f"worker.{worker.name}", [e.WorkerLeft(incarnation=worker.incarnation)])
    elif choice < 0.5:
        world.write(f"worker.{worker.name}", [e.WorkerDraining(incarnation=worker.incarnation)])
    elif choice < 0.8:
        event = e.WorkerLost(term=world.term, incarnation=worker.incarnation, reason="silent")
        world.write(f"assign._.{worker.name}", [event])
    else:
        drain = e.DrainRequested(worker=worker.name, drain=r.random() < 0.6, reason="")
        world.write("pool", [drain, e.PoolConfigured(incomplete_ms=r.randrange(10**6))])


def assign_task(world: World, run: Run, task: str) -> e.TaskAssigned | None:
    pool, r = world.fold.pool, world.random
    workers = list(pool.workers.values())
    if not workers:
        return None
    worker = r.choice(workers)
    known = run.tasks.get(task)
    number = (known.tries if known else 0) + 1 + (r.random() < 0.03)
    event = e.TaskAssigned(
        term=world.term,
        run=run.id,
        token=attempt_token(task, number, pool.term, f"n{r.randrange(10**6)}"),
        incarnation=worker.incarnation,
        devices=["GPU-1"] if r.random() < 0.3 else [],
        params=msgspec.Raw(b'{"p":%d}' % number),
    )
    world.write(f"assign.cpu.{worker.name}", [event])
    return event


def assign(world: World) -> None:
    run = world.some_run()
    if run is not None and (run.closed or world.random.random() < 0.2):
        for _ in range(world.random.randrange(1, 4)):
            assign_task(world, run, world.some_task(run))


def revoke(world: World) -> None:
    attempt = world.some_attempt()
    if attempt is not None:
        mode = world.random.choice(["steal", "cancel"])
        event = e.AttemptRevoked(
            term=world.term, run=attempt.task.run.id, token=attempt.token, mode=mode
        )
        world.write(f"assign._.{attempt.worker}", [event])


def tell(world: World) -> None:
    """A worker tells about one attempt: some of its events, numbered right most of the time."""
    attempt, r = world.some_attempt(), world.random
    if attempt is None:
        return
    told: list[e.Event] = []
    n = attempt.next_n + (r.random() < 0.03)
    token = attempt.token
    if not attempt.started and r.random() < 0.6:
        told.append(e.AttemptStarted(token=token, n=n))
        n += 1
    elif not attempt.started and r.random() < 0.15:
        told.append(e.AttemptReturned(token=token, n=n, reason="stolen"))
        n += 1
    if r.random() < 0.4:
        cases = [
            Case(id=f"t{i}", verdict=r.choice([Verdict.PASSED, Verdict.FAILED]), duration_us=i)
            for i in range(r.randrange(3))
        ]
        numbers = [Measurement(name="latency", value=r.random(), unit="ms", samples=[1.0, 2.0])]
        told.append(e.CasesReported(token=token, n=n, cases=cases, measurements=numbers))
        n += 1
    if r.random() < 0.2:
        told.append(e.ArtifactStored(token=token, n=n, path="a/b", digest="sha256:0", bytes=7))
        n += 1
    if r.random() < 0.6:
        told.append(finish(world, token, n))
    if told:
        worker = attempt.worker if r.random() < 0.97 else r.choice(WORKERS)
        world.write(f"attempt.{worker}.{attempt.task.run.id}", told)


def finish(world: World, token: str, n: int) -> e.AttemptFinished:
    r = world.random
    rich = r.random() < 0.5
    return e.AttemptFinished(
        token=token,
        n=n,
        verdict=r.choice(list(Verdict)),
        cause=r.choice(list(Cause)),
        duration_us=r.choice([0, 5, 2**40]),
        exit_code=r.choice([None, 0, -9, 2**35]),
        message=r.choice(["", "boom \u0000 ü 💥"]),
        value=msgspec.Raw(b'{"x":1}'),
        usage=Usage(cpu_us=3, peak_rss_bytes=2**33) if rich else None,
        placement=Placement(requested="cuda", actual="cpu") if rich else None,
        output=Output(digest="sha256:1", bytes=9, tail="the end") if rich else None,
    )


# -- the leader ------------------------------------------------------------------------------------
def elect(world: World) -> None:
    term = world.fold.pool.term + world.random.choice([0, 1, 1, 2])
    world.write("leader", [e.LeaderElected(term=term, coordinator="c2", nonce=f"n{term}")])


def rulings(world: World) -> None:
    """One message of rulings about a run; causes and effects may share it, which ours never do."""
    run, r = world.some_run(), world.random
    if run is None:
        return
    events = [ruling(world, run) for _ in range(r.choice([1, 1, 2, 4]))]
    world.write(f"ruling.{run.id}", [event for event in events if event is not None])


def ruling(world: World, run: Run) -> e.Event | None:
    r, choice = world.random, world.random.random()
    if choice < 0.45:
        ended = [f for f in world.finished if f[0] == run.id]
        if ended and r.random() < 0.8:
            _, token, at, verdict = r.choice(ended)
            return e.TaskSettled(
                term=world.term, task=token.split(".")[0], verdict=verdict, token=token, at=at
            )
        return e.TaskSettled(
            term=world.term,
            task=world.some_task(run),
            verdict=Verdict.CANCELLED,
            cause=Cause.WORKER_LOST,
            at=(2**60, -1) if r.random() < 0.05 else None,
        )
    if choice < 0.75:
        tokens = [a.token for task in run.tasks.values() for a in task.open]
        tokens += [t.finish.token for t in run.tasks.values() if t.finish is not None]
        if not tokens:
            return None
        return e.TaskRequeued(
            term=world.term,
            token=r.choice(tokens),
            cause=r.choice([Cause.WORKER_LOST, Cause.TEST]),
            delay_ms=r.randrange(1000),
            keep_open=r.random() < 0.3,
        )
    if choice < 0.85:
        group = f"g{r.randrange(3)}"
        start = r.randrange(4)
        return e.RangeSettled(
            term=world.term,
            group=group,
            start=start,
            stop=start + r.randrange(5),
            verdict=Verdict.CANCELLED,
            cause=Cause.CANCELLED,
        )
    return close_run(world, run)


def close_run(world: World, run: Run) -> e.Event:
    r, choice = world.random, world.random.random()
    if choice < 0.15:
        return e.SubmissionRejected(term=world.term, reason="bad", fatal=r.random() < 0.4)
    if choice < 0.4:
        return e.RunForgotten(term=world.term)
    verdict = "incomplete" if choice < 0.45 else "failed"
    return e.RunSettled(term=world.term, verdict=verdict, counts=dict(run.counts))


def settle_all(world: World) -> None:
    """What is left of a run is settled, and the run."""
    run = world.some_run()
    if run is None or run.settled or world.random.random() < 0.5:
        return
    ranges = [
        e.RangeSettled(
            term=world.term,
            group=group.name,
            start=0,
            stop=group.size,
            verdict=Verdict.NO_CAPACITY,
            cause=Cause.NO_CAPACITY,
            message="nobody",
        )
        for group in run.groups.values()
    ]
    subject = f"ruling.{run.id}"
    if ranges:
        world.write(subject, ranges)
    world.write(subject, [e.RunSettled(term=world.term, verdict="failed", counts=dict(run.counts))])


# -- rude ------------------------------------------------------------------------------------------
def garbage(world: World) -> None:
    r = world.random
    run = world.some_run()
    subject = r.choice(
        ["pool", "leader", "run.ann.x", "worker.w1", "nowhere.at.all", "run.a b.c", "assign.cpu.w1"]
        + ([f"run.{run.publisher}.{run.id}", f"ruling.{run.id}"] if run else [])
    )
    data = r.choice(
        [
            b"",
            b"\xff\xfe",
            b"[1,2,3]",
            b'{"type":"RunSealed","parts":0,"tasks":0}',
            b'[{"type":"Nonsense"},{"type":"RunSealed","parts":-1,"tasks":0}]',
            b"[" + b"0," * 700 + b"0]",
            b'[{"type":"PoolConfigured","remember_ms":1' + b"0" * 30 + b"}]",
        ]
    )
    world.write_raw(subject, data)


def replay(world: World) -> None:
    """A message is stored again, by a writer that got no answer or by an enemy."""
    old = world.random.choice(world.log)
    headers = {"Nats-Sequence": "7"} if world.random.random() < 0.3 else None
    world.write_raw(old.subject.removeprefix("dtf.main."), old.data, headers)


ACTIONS: list[tuple[Callable[[World], None], int]] = [
    (submit, 10),
    (stranger, 3),
    (cancel, 3),
    (join, 4),
    (leave, 3),
    (assign, 25),
    (revoke, 3),
    (tell, 40),
    (elect, 1),
    (rulings, 30),
    (settle_all, 3),
    (garbage, 3),
    (replay, 5),
]
