"""A plausible day of a pool, told event by event, for the golden logs."""

from __future__ import annotations

from dtf.core import events as e
from dtf.core.codec import encode_batch
from dtf.core.ids import run_id
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
from msgspec import Raw
from worlds import World, finished, joined, requeued

CUDA = Requirement(hardware="cuda", labels={"site": "lab"}, cpu_milli=2000, memory_bytes=2**30)
BENCH = TaskSpec(
    command=["python", "bench.py", "--batch", "{batch}"],
    env={"LANG": "C.UTF-8"},
    bundle="sha256:" + "a1" * 32,
    artifacts=["*.json"],
    require=CUDA,
    wall_ms=600_000,
    silence_ms=60_000,
    retries=1,
)
PARITY = TaskSpec(runner="python", target="parity:check", isolation="none")


def day_in_a_pool() -> World:
    """Every kind of event, most ways a task can end, and some strangers at the door."""
    world = World(bare=True)
    world.put("leader", encode_batch([e.LeaderElected(term=1, coordinator="c1", nonce="early")]))
    world.say("pool", e.PoolCreated(uuid="6f1c2c1e-7a50-4b52-9f5e-0c7f3c0c9a11", name="main"))
    world.say("pool", e.PoolConfigured(admins=["admin", "night"], incomplete_ms=600_000))
    world.say("leader", e.LeaderElected(term=1, coordinator="c1", nonce="k3j9"))
    gpu = [Device(id="GPU-1", hardware="cuda", name="card", index=0, memory_bytes=2**34)]
    gpu.append(Device(id="GPU-2", hardware="cuda", level="verified", driver="580"))
    world.say(
        "worker.gpu1",
        joined(
            "aaaa",
            hardware=["cpu", "cuda"],
            devices=gpu,
            labels={"site": "lab"},
            server_id="S",
            client_id=7,
        ),
    )
    world.say("worker.cpu1", joined("bbbb", platform={"system": "Linux"}, version="0.1.0"))
    _matrix(world)
    _parts_and_a_stranger(world)
    _losses(world)
    _array(world)
    _second_leader(world)
    _the_door(world)
    return world


def _matrix(world: World) -> None:
    """A benchmark matrix in one message; one task retried, one cancelled."""
    run = run_id("ci", "commit-1")
    axes = [Axis(name="model", values=[Raw(b'"tiny"'), Raw('"größer"'.encode())])]
    axes.append(Axis(name="batch", values=[Raw(b"1"), Raw(b"8")]))
    world.say(
        f"run.ci.{run}",
        e.RunSubmitted(key="commit-1", name="nightly ✓", priority=5, labels={"branch": "main"}),
        e.TasksSubmitted(part=0, group="bench", spec=BENCH, label="latency", axes=axes),
        e.RunSealed(parts=1, tasks=4),
    )
    tokens = [f"bench-{index}.1.1.k{index}" for index in range(4)]
    params = [Raw(b'{"model":"tiny","batch":1}'), Raw(b'{"model":"tiny","batch":8}')]
    world.say(
        "assign.cuda.gpu1",
        world.assignment(run, tokens[0], "gpu1", devices=["GPU-1"], spec=BENCH, params=params[0]),
        world.assignment(run, tokens[1], "gpu1", devices=["GPU-2"], params=params[1]),
    )
    subject = f"attempt.gpu1.{run}"
    cases = [Case(id="test_latency[tiny]", verdict=Verdict.PASSED, duration_us=1234)]
    numbers = [Measurement(name="p50", value=1.5, unit="ms", samples=[1.4, 1.5, 1.6])]
    usage = Usage(cpu_us=12_345, peak_rss_bytes=2**28)
    output = Output(digest="sha256:" + "b2" * 32, bytes=70, tail="done [ok]\n")
    world.say(
        subject,
        e.AttemptStarted(token=tokens[0]),
        e.CasesReported(token=tokens[0], n=1, cases=cases, measurements=numbers),
        e.ArtifactStored(token=tokens[0], n=2, path="out/p.json", digest="sha256:c3", bytes=9),
        e.CasesCollected(token=tokens[0], n=3, file="t.py", selected=1, ids=["t.py::a"]),
        finished(
            tokens[0], n=4, duration_us=2_000_000, exit_code=0, value=Raw(b'{"p50":1.5}'),
            usage=usage, output=output, placement=Placement(requested="cuda", actual="cuda"),
        ),
    )  # fmt: skip
    world.say(
        subject,
        e.AttemptStarted(token=tokens[1]),
        finished(tokens[1], n=1, verdict=Verdict.FAILED, cause=Cause.CRASH, exit_code=-11),
    )
    at = (world.pool.sequence - 1, 3)
    world.say(f"ruling.{run}", world.settlement("bench-0", token=tokens[0], at=at))
    world.say(f"ruling.{run}", requeued(1, tokens[1], Cause.CRASH, delay_ms=500))
    again = "bench-1.2.1.k9"
    world.say("assign.cuda.gpu1", world.assignment(run, again, "gpu1", devices=["GPU-2"]))
    world.say(subject, finished(again, verdict=Verdict.FALLBACK, cause=Cause.FALLBACK))
    at = (world.pool.sequence, 0)
    world.say(
        f"ruling.{run}",
        world.settlement(
            "bench-1", verdict=Verdict.FALLBACK, cause=Cause.FALLBACK, token=again, at=at
        ),
    )
    world.say("assign.cuda.gpu1", world.assignment(run, tokens[2], "gpu1", devices=["GPU-1"]))
    world.say(f"run.ci.{run}", e.CancelRequested(task="bench-2", reason="too slow"))
    world.say("assign._.gpu1", e.AttemptRevoked(term=1, run=run, token=tokens[2], mode="cancel"))
    world.say(subject, finished(tokens[2], verdict=Verdict.CANCELLED, cause=Cause.CANCELLED))
    world.say(
        f"ruling.{run}",
        world.settlement("bench-2", verdict=Verdict.CANCELLED, cause=Cause.CANCELLED),
        world.settlement("bench-3", verdict=Verdict.TIMED_OUT, cause=Cause.QUEUE_LIMIT),
    )
    counts = {"passed": 1, "fallback": 1, "cancelled": 1, "timed_out": 1}
    world.say(f"ruling.{run}", e.RunSettled(term=1, verdict="failed", counts=counts))


def _parts_and_a_stranger(world: World) -> None:
    """Parts in any order and twice; a stranger on the same id; one steal, one refusal."""
    run = run_id("lab", "parts")
    items = [Raw(b'{"i":%d}' % index) for index in range(3)]
    first = e.TasksSubmitted(part=0, group="a", spec=PARITY, items=items)
    second = e.TasksSubmitted(part=1, group="b", spec=PARITY)
    world.say(f"run.other.{run}", second)
    world.say(f"run.lab.{run}", first)
    world.say(f"run.lab.{run}", e.RunSubmitted(key="parts", retry_of=run_id("ci", "commit-1")))
    world.say(f"run.lab.{run}", e.RunSealed(parts=2, tasks=4), second, second)
    world.say(f"run.lab.{run}", first)
    tokens = [f"a-{index}.1.1.p{index}" for index in range(3)]
    world.say(
        "assign.cpu.cpu1",
        *(
            world.assignment(run, token, "cpu1", params=item)
            for token, item in zip(tokens, items, strict=True)
        ),
    )
    world.say("assign._.cpu1", e.AttemptRevoked(term=1, run=run, token=tokens[2], mode="steal"))
    subject = f"attempt.cpu1.{run}"
    world.say(subject, finished(tokens[0], value=Raw(b"[1,2]")), e.AttemptReturned(token=tokens[2]))
    world.say(subject, e.AttemptReturned(token=tokens[1], reason="no bundle"))
    world.say(subject, finished(tokens[0]))
    for token in ("a-1.2.1.q1", "a-2.2.1.q2", "b-0.1.1.q3"):
        world.say("assign.cpu.cpu1", world.assignment(run, token, "cpu1"))
        world.say(subject, finished(token, verdict=Verdict.SKIPPED))
    world.say(f"ruling.{run}", *(world.settlement(t) for t in ("a-0", "a-1", "a-2", "b-0", "b-1")))
    world.say(f"ruling.{run}", e.RunSettled(term=1, verdict="passed", counts={"passed": 4}))
    world.say(f"ruling.{run}", e.RunForgotten(term=1))


def _losses(world: World) -> None:
    """A worker is lost, thaws and holds on; an attempt is kept open; one was never received."""
    run = world.submit("losses", "ci", count=4)
    tokens = [f"g-{index}.1.1.l{index}" for index in range(4)]
    world.say("assign.cpu.cpu1", *(world.assignment(run, token, "cpu1") for token in tokens))
    world.say(f"attempt.cpu1.{run}", e.AttemptStarted(token=tokens[0]))
    world.say("assign._.cpu1", e.WorkerLost(term=1, incarnation="bbbb", reason="silent"))
    world.say(f"ruling.{run}", requeued(1, tokens[1]), requeued(1, tokens[3], keep_open=True))
    held = [Held(run=run, token=token) for token in tokens[:2]]
    world.say("worker.cpu1", joined("cccc", held=held))
    world.say("worker.cpu1", joined("bbbb"))
    world.say(f"attempt.cpu1.{run}", finished(tokens[0], n=1), finished(tokens[1]))
    lost = world.settlement("g-2", verdict=Verdict.ERROR, cause=Cause.WORKER_LOST, token=tokens[2])
    world.say(f"ruling.{run}", world.settlement("g-0"), lost)
    world.say(f"attempt.cpu1.{run}", finished(tokens[3], verdict=Verdict.FAILED))
    world.say("pool", e.DrainRequested(worker="cpu1", reason="new disk"))
    world.say("worker.cpu1", e.WorkerDraining(incarnation="cccc", reason="asked"))


def _array(world: World) -> None:
    """An array nobody can run; an empty run; one that never came whole; one that is refused."""
    run = world.submit("array", "ci", count=100)
    world.say(
        f"ruling.{run}",
        e.RangeSettled(
            term=1, group="g", start=0, stop=100, verdict=Verdict.NO_CAPACITY,
            cause=Cause.NO_CAPACITY, message="no worker fits",
        ),
    )  # fmt: skip
    world.say(f"ruling.{run}", e.RunSettled(term=1, verdict="failed", counts={"no_capacity": 100}))
    empty = run_id("ci", "empty")
    world.say(f"run.ci.{empty}", e.RunSubmitted(key="empty"), e.RunSealed(parts=0, tasks=0))
    world.say(f"ruling.{empty}", e.RunSettled(term=1, verdict="empty", counts={}))
    late = run_id("ci", "late")
    world.say(f"run.ci.{late}", e.RunSubmitted(key="late"))
    world.say(f"ruling.{late}", e.RunSettled(term=1, verdict="incomplete", counts={}))
    bad = run_id("ci", "bad")
    part = e.TasksSubmitted(part=0, group="g", spec=TaskSpec(command=[]))
    world.say(f"run.ci.{bad}", e.RunSubmitted(key="bad"), part, e.RunSealed(parts=1, tasks=1))
    world.say(f"ruling.{bad}", e.SubmissionRejected(term=1, reason="bad part", fatal=True))


def _second_leader(world: World) -> None:
    """A new leader; what the old one still says is void."""
    run = run_id("ci", "losses")
    world.say(
        "leader",
        e.LeaderElected(term=2, coordinator="c2", nonce="m4"),
        e.LeaderElected(term=2, coordinator="c3", nonce="m5"),
    )
    old = e.TaskSettled(term=1, task="g-1", verdict=Verdict.PASSED)
    world.say(f"ruling.{run}", old)
    world.say(f"run.night.{run}", e.CancelRequested(reason="lights out"))
    told = e.TaskSettled(term=2, task="g-1", verdict=Verdict.CANCELLED, cause=Cause.CANCELLED)
    world.say(f"ruling.{run}", told, world.settlement("g-3", verdict=Verdict.FAILED))
    counts = {"passed": 1, "error": 1, "cancelled": 1, "failed": 1}
    world.say(f"ruling.{run}", e.RunSettled(term=2, verdict="cancelled", counts=counts))
    world.say("worker.gpu1", e.WorkerLeft(incarnation="aaaa", reason="shutdown"))


def _the_door(world: World) -> None:
    """What does not count, and why."""
    world.put("worker.x", b"\xff\xfe")
    world.put("worker.x", b'[{"type":"WorkerBlessed"},{"type":"WorkerLeft","incarnation":"a\\n"}]')
    world.put("worker.x", b"[" * 700 + b"]" * 700)
    world.put("worker.x.y", b"[{}]")
    world.put("worker.x", encode_batch([joined("dddd")]), {"Nats-Stream": "DTF_main_LOG"})
    world.put("pool", encode_batch([e.WorkerLeft(incarnation="cccc")]))
    world.put("worker.gpu1", b'{"type":"WorkerDraining","incarnation":"aaaa","mood":{"a":[1]}}')
