"""The leader's decisions without IO: given facts, when it decides, then these rulings."""

from __future__ import annotations

from collections import Counter

import pytest
from dtf.coordinator.scheduler import CAPACITY_GRACE_S, Scheduler
from dtf.core import events as e
from dtf.core.codec import encode_batch
from dtf.core.fold import Fold
from dtf.core.ids import run_id
from dtf.core.model import Cause, Device, Held, Requirement, TaskSpec, Verdict
from dtf.core.ports import Message
from dtf.core.state import digest
from msgspec import Raw

PYTHON = TaskSpec(runner="python", target="m:f", isolation="none")


class World:
    """A log, its fold, a leader, and workers that do what they are told when told to."""

    def __init__(self) -> None:
        self.fold = Fold("main")
        self.log: list[Message] = []
        self.now = 0.0
        self.scheduler: Scheduler | None = None
        self.held: dict[str, list[e.TaskAssigned]] = {}
        self.revoked: list[e.AttemptRevoked] = []
        self.append("pool", [e.PoolCreated(uuid="u", name="main")])
        self.elect()

    @property
    def pool(self):
        return self.fold.pool

    def append(self, subject: str, events: list[e.Event], *, void: str | None = None) -> int:
        data = encode_batch(events)
        message = Message(len(self.log) + 1, f"dtf.main.{subject}", data, len(self.log) * 10)
        self.log.append(message)
        judged = self.fold.apply(message)
        if void is None:
            assert not any(judged.voids), (subject, events, judged.voids)
        else:
            assert set(judged.voids) == {void}, judged.voids
        if self.scheduler is not None:
            self.scheduler.observe(judged, self.now)
        if subject.startswith("assign"):
            worker = subject.split(".")[2]
            for event, reason in zip(judged.events, judged.voids, strict=False):
                if isinstance(event, e.TaskAssigned) and not reason:
                    self.held.setdefault(worker, []).append(event)
                if isinstance(event, e.AttemptRevoked):
                    self.revoked.append(event)
        return message.sequence

    def elect(self, name: str = "c") -> None:
        term = self.pool.term + 1
        self.scheduler = None
        self.append("leader", [e.LeaderElected(term=term, coordinator=name, nonce=f"n{term}x")])
        self.scheduler = Scheduler(self.pool, self.fold.subjects, self.now)

    def join(self, name: str, incarnation: str = "i1", **facts: object) -> None:
        facts = {"hardware": ["cpu"], "cpu_milli": 1000, "memory_bytes": 2**33, **facts}
        self.append(f"worker.{name}", [e.WorkerJoined(incarnation=incarnation, **facts)])  # type: ignore[arg-type]
        self.held.setdefault(name, [])

    def submit(self, key: str, *groups: dict, publisher: str = "me", **run: object) -> str:
        rid = run_id(publisher, key)
        parts: list[e.Event] = []
        for part, group in enumerate(groups):
            group = {"group": f"g{part}", "spec": PYTHON, **group}
            parts.append(e.TasksSubmitted(part=part, **group))
        tasks = sum(len(g.get("items") or ()) or g.get("count") or 1 for g in groups)
        events = [
            e.RunSubmitted(key=key, **run),
            *parts,
            e.RunSealed(parts=len(parts), tasks=tasks),
        ]  # type: ignore[arg-type]
        self.append(f"run.{publisher}.{rid}", events)
        return rid

    def wave(self) -> list[tuple[str, list[e.Event]]]:
        assert self.scheduler is not None
        wave = self.scheduler.decide(self.now)
        subjects = [subject for subject, _ in wave]
        assert len(subjects) == len(set(subjects)), "one message a subject in a wave"
        for subject, events in wave:
            self.append(subject.removeprefix("dtf.main."), events)
        return wave

    def settle(self, limit: int = 50) -> None:
        """Waves until the leader has nothing more to say."""
        for _ in range(limit):
            if not self.wave():
                return
        raise AssertionError("the leader does not come to rest")

    def finish(self, worker: str, number: int | None = None, **how: object) -> None:
        """The worker ends its oldest assignments."""
        held = self.held[worker]
        done = held[: len(held) if number is None else number]
        self.held[worker] = held[len(done) :]
        by_run: dict[str, list[e.Event]] = {}
        for task in done:
            end = {"verdict": Verdict.PASSED, "duration_us": 5, **how}
            by_run.setdefault(task.run, []).append(e.AttemptFinished(token=task.token, **end))  # type: ignore[arg-type]
        for run, events in by_run.items():
            self.append(f"attempt.{worker}.{run}", events)

    def run_all(self) -> None:
        for _ in range(200):
            self.settle()
            if not any(self.held.values()):
                return
            for worker in list(self.held):
                self.finish(worker)
        raise AssertionError("work never ends")


@pytest.fixture
def world() -> World:
    return World()


def test_a_run_is_scheduled_settled_and_closed(world: World) -> None:
    world.join("w")
    rid = world.submit("k", {"items": [Raw(b'{"i":%d}' % i) for i in range(1000)]})
    world.run_all()
    run = world.pool.runs[rid]
    assert run.settled == "passed"
    assert run.counts == {"passed": 1000}
    assert not world.pool.open
    assert all(not desk.seats for desk in world.scheduler.work.desks.values())  # type: ignore[union-attr]


def test_the_specification_travels_once_an_incarnation(world: World) -> None:
    world.join("w")
    world.submit("k", {"count": 50})
    specs = 0
    for _ in range(200):
        wave = world.wave()
        specs += sum(
            e_.spec is not None for _, es in wave for e_ in es if isinstance(e_, e.TaskAssigned)
        )
        if not wave:
            if not world.held["w"]:
                break
            world.finish("w")
    assert specs == 1


def test_unknown_durations_are_not_prefetched_and_small_tasks_are(world: World) -> None:
    world.join("w")
    world.submit("k", {"count": 2000})
    world.settle()
    assert len(world.held["w"]) == 1
    world.finish("w")
    world.settle()
    assert len(world.held["w"]) > 400


def test_higher_priority_first_and_fifo_inside(world: World) -> None:
    low = world.submit("low", {})
    high = world.submit("high", {}, priority=5)
    low2 = world.submit("low2", {})
    world.join("w")
    order = []
    for _ in range(3):
        world.settle()
        order.append(world.held["w"][0].run)
        world.finish("w", duration_us=10**6)
    assert order == [high, low, low2]


def test_hard_filters_keep_tasks_from_unfit_workers(world: World) -> None:
    world.join("cpu")
    gpu = Device(id="G0", hardware="cuda", memory_bytes=2**34)
    world.join("gpu", hardware=["cpu", "cuda"], devices=[gpu], labels={"site": "a"})
    need = Requirement(hardware="cuda", labels={"site": "a"}, device_memory_bytes=2**33)
    world.submit("k", {"spec": TaskSpec(command=["x"], require=need), "count": 2})
    world.settle()
    assert not world.held["cpu"]
    assert [a.devices for a in world.held["gpu"]] == [["G0"]], "one device, one attempt"


def test_the_label_worker_is_the_name_whatever_a_worker_says(world: World) -> None:
    world.join("w1")
    world.join("w2", labels={"worker": "w1"})
    pinned = {"spec": TaskSpec(command=["x"], require=Requirement(labels={"worker": "w1"}))}
    world.submit("k", pinned | {"count": 1})
    world.settle()
    assert len(world.held["w1"]) == 1
    assert not world.held["w2"]


def test_nobody_fits_ends_as_no_capacity_after_the_grace(world: World) -> None:
    world.join("w")
    need = Requirement(hardware="rocm")
    rid = world.submit("k", {"spec": TaskSpec(command=["x"], require=need), "count": 100_000})
    world.settle()
    assert not world.pool.runs[rid].settled
    world.now += CAPACITY_GRACE_S + 0.1
    before = len(world.log)
    world.settle()
    run = world.pool.runs[rid]
    assert run.counts == {"no_capacity": 100_000}
    assert run.settled == "failed"
    assert len(world.log) - before == 2, "an array is settled by one event"


def test_a_run_may_wait_for_capacity(world: World) -> None:
    need = Requirement(hardware="rocm")
    spec = TaskSpec(command=["x"], require=need)
    rid = world.submit("k", {"spec": spec}, wait_for_capacity=True)
    world.settle()
    world.now += 10 * CAPACITY_GRACE_S
    world.settle()
    world.join("w", hardware=["rocm"], devices=[Device(id="A", hardware="rocm")])
    world.run_all()
    assert world.pool.runs[rid].settled == "passed"


def test_failures_are_retried_on_their_own_budget(world: World) -> None:
    world.join("w")
    spec = TaskSpec(command=["x"], retries=2, infra_retries=0)
    rid = world.submit("k", {"spec": spec})
    for attempt in range(3):
        world.settle()
        assert len(world.held["w"]) == 1, attempt
        world.finish("w", verdict=Verdict.FAILED, cause=Cause.TEST)
    world.settle()
    assert world.pool.runs[rid].counts == {"failed": 1}


def test_a_passed_retry_passes(world: World) -> None:
    world.join("w")
    rid = world.submit("k", {"spec": TaskSpec(command=["x"], retries=1)})
    world.settle()
    world.finish("w", verdict=Verdict.FAILED, cause=Cause.TEST)
    world.run_all()
    assert world.pool.runs[rid].settled == "passed"


def test_lost_worker_tasks_move_on_and_late_results_change_nothing(world: World) -> None:
    world.join("w1")
    rid = world.submit("k", {"count": 1})
    world.settle()
    late = world.held["w1"].pop()
    world.join("w2")
    assert world.scheduler is not None
    world.scheduler.lose("w1", "i1", "connection closed")
    world.settle()
    assert [a.token.split(".")[1] for a in world.held["w2"]] == ["2"]
    finish = e.AttemptFinished(token=late.token, verdict=Verdict.FAILED, duration_us=1)
    world.append(f"attempt.w1.{rid}", [finish], void="attempt_closed")
    world.finish("w2")
    world.settle()
    assert world.pool.runs[rid].settled == "passed"


def test_infrastructure_retries_are_bounded(world: World) -> None:
    rid = world.submit("k", {"spec": TaskSpec(command=["x"], infra_retries=1)})
    for number in range(2):
        name = f"w{number}"
        world.join(name)
        world.settle()
        assert world.held[name]
        world.scheduler.lose(name, "i1", "gone")  # type: ignore[union-attr]
        world.settle()
    assert world.pool.runs[rid].counts == {"error": 1}


def test_cancel_settles_what_waits_and_stops_what_runs(world: World) -> None:
    world.join("w")
    rid = world.submit("k", {"count": 100_000})
    world.settle()
    world.append(f"run.me.{rid}", [e.CancelRequested()])
    before = len(world.log)
    world.wave()
    assert [r.mode for r in world.revoked] == ["cancel"]
    assert len(world.log) - before <= 2
    world.finish("w", verdict=Verdict.CANCELLED, cause=Cause.CANCELLED)
    world.settle()
    run = world.pool.runs[rid]
    assert run.counts == {"cancelled": 100_000}
    assert run.settled == "cancelled"


def test_a_finish_that_landed_before_the_cancel_wins(world: World) -> None:
    world.join("w")
    rid = world.submit("k", {})
    world.settle()
    world.finish("w")
    world.append(f"run.me.{rid}", [e.CancelRequested()])
    world.settle()
    assert world.pool.runs[rid].counts == {"passed": 1}


def test_one_task_is_cancelled_alone(world: World) -> None:
    world.join("w")
    rid = world.submit("k", {"count": 3})
    world.settle()
    world.append(f"run.me.{rid}", [e.CancelRequested(task="g0-2")])
    world.append(f"run.me.{rid}", [e.CancelRequested(task="g0-0")])
    world.settle()
    assert [r.token.split(".")[0] for r in world.revoked] == ["g0-0"]
    world.finish("w", verdict=Verdict.CANCELLED, cause=Cause.CANCELLED)
    world.run_all()
    assert world.pool.runs[rid].counts == {"cancelled": 2, "passed": 1}


def test_idle_workers_take_queued_work_back(world: World) -> None:
    world.join("w1")
    world.submit("warm", {"count": 1})
    world.settle()
    world.finish("w1", duration_us=10_000)
    world.settle()
    world.submit("k", {"count": 10})
    world.settle()
    assert len(world.held["w1"]) >= 10
    world.join("w2")
    world.settle()
    stolen = [r for r in world.revoked if r.mode == "steal"]
    assert stolen
    for request in stolen:
        held = [a for a in world.held["w1"] if a.token == request.token]
        world.held["w1"].remove(held[0])
        world.append(f"attempt.w1.{held[0].run}", [e.AttemptReturned(token=held[0].token)])
    world.settle()
    assert world.held["w2"]
    world.run_all()
    assert Counter(r.settled for r in world.pool.runs.values()) == {"passed": 2}


def test_a_new_leader_goes_on_anywhere(world: World) -> None:
    """Elections between any two messages change nothing about the outcome."""
    world.join("w1")
    world.join("w2")
    rid = world.submit("k", {"items": [Raw(b"{}")] * 30}, {"count": 30})
    for step in range(400):
        if world.pool.runs[rid].settled:
            break
        world.elect(f"c{step % 3}")
        world.wave()
        if step % 3 == 0:
            for worker in ("w1", "w2"):
                world.finish(worker, 3)
    assert world.pool.runs[rid].counts == {"passed": 60}
    replayed = Fold("main")
    for message in world.log:
        replayed.apply(message)
    assert digest(replayed.pool) == digest(world.pool)


def test_held_attempts_survive_a_rejoin_and_others_are_requeued(world: World) -> None:
    world.join("w", cpu_milli=2000)
    rid = world.submit("k", {"count": 2})
    world.settle()
    first, second = world.held["w"]
    world.held["w"] = [first]
    world.join("w", "i2", cpu_milli=2000, held=[Held(run=rid, token=first.token)])
    world.settle()
    tokens = {a.token.split(".")[0]: a.token for a in world.held["w"]}
    assert tokens[first.token.split(".")[0]] == first.token
    assert tokens[second.token.split(".")[0]] != second.token
    world.run_all()
    assert world.pool.runs[rid].counts == {"passed": 2}


def test_drained_workers_get_nothing_new(world: World) -> None:
    world.join("w")
    world.append("pool", [e.DrainRequested(worker="w", reason="hot")])
    world.submit("k", {})
    world.settle()
    assert not world.held["w"]
    world.append("pool", [e.DrainRequested(worker="w", drain=False)])
    world.settle()
    assert world.held["w"]


def test_an_invalid_part_rejects_the_run(world: World) -> None:
    rid = run_id("me", "bad")
    bad = e.TasksSubmitted(part=0, group="g", spec=TaskSpec(command=[]))
    events: list[e.Event] = [e.RunSubmitted(key="bad"), bad, e.RunSealed(parts=1, tasks=1)]
    data = Message(len(world.log) + 1, f"dtf.main.run.me.{rid}", encode_batch(events))
    world.log.append(data)
    assert world.scheduler is not None
    world.scheduler.observe(world.fold.apply(data), world.now)
    world.settle()
    assert world.pool.runs[rid].settled == "rejected"


def test_no_tasks_is_empty_and_never_passed(world: World) -> None:
    rid = world.submit("k")
    world.settle()
    assert world.pool.runs[rid].settled == "empty"


def test_an_open_run_ends_as_incomplete(world: World) -> None:
    rid = run_id("me", "k")
    world.append(f"run.me.{rid}", [e.RunSubmitted(key="k")])
    world.settle()
    world.now += world.pool.incomplete_ms / 1000 + 1
    world.settle()
    assert world.pool.runs[rid].settled == "incomplete"


def test_queue_limit_settles_what_never_started(world: World) -> None:
    rid = world.submit("k", {"spec": TaskSpec(command=["x"], queue_ms=1000), "count": 10})
    world.settle()
    world.now += 1.1
    world.settle()
    assert world.pool.runs[rid].counts == {"timed_out": 10}


def test_a_pass_over_100000_queued_tasks_looks_at_none_of_them(world: World) -> None:
    items = [Raw(b"{}")] * 100_000
    world.submit("k", {"items": items})
    world.join("w")
    world.settle()
    source = world.scheduler.work.queue.lanes.popitem()[1].head()  # type: ignore[union-attr]
    assert source is not None
    assert source.cursor == 1


def test_a_new_leader_gives_a_task_that_came_back_to_one_worker_only(world: World) -> None:
    """It waits both as one that came back and inside the range of its group."""
    world.join("w", cpu_milli=3000)
    rid = world.submit("k", {"count": 5})
    world.settle()
    world.append("worker.w", [e.WorkerLeft(incarnation="i1")])
    world.settle()
    assert all(task.waiting for task in world.pool.runs[rid].tasks.values())
    world.elect("other")
    world.join("v", "i2", cpu_milli=9000)
    world.settle()  # a second assignment of one task would be void, and `append` says so
    assert sorted(a.token.split(".")[0] for a in world.held["v"]) == [f"g0-{i}" for i in range(5)]


def test_a_second_copy_of_an_assignment_gives_nothing_out_again(world: World) -> None:
    world.join("w")
    world.submit("k", {"count": 2})
    ((subject, assignment),) = world.wave()
    world.append(subject.removeprefix("dtf.main."), assignment, void="duplicate")
    assert world.wave() == [], "the slot is still taken"
    world.finish("w", 1, verdict=Verdict.FAILED)
    world.append(subject.removeprefix("dtf.main."), assignment, void="attempt_number")
    world.settle()
    assert [a.token.split(".")[0] for a in world.held["w"]] == ["g0-1"], "g0-0 has had its turn"
    assert len(world.pool.open) == 1


def test_a_run_cancelled_before_its_last_part_came_is_not_run(world: World) -> None:
    """The ruling that it ended as it was may come too late: then it is cancelled as it is."""
    world.join("w")
    rid = run_id("me", "k")
    part = e.TasksSubmitted(part=0, group="g", spec=PYTHON, count=9)
    world.append(f"run.me.{rid}", [e.RunSubmitted(key="k"), e.CancelRequested()])
    assert world.scheduler is not None
    ((subject, ruling),) = world.scheduler.decide(world.now)
    world.append(f"run.me.{rid}", [part, e.RunSealed(parts=1, tasks=9)])
    world.append(subject.removeprefix("dtf.main."), ruling, void="unsettled_tasks")
    world.settle()
    assert not world.held["w"]
    assert world.pool.runs[rid].settled == "cancelled"
    assert world.pool.runs[rid].counts == {"cancelled": 9}


def test_a_task_that_comes_back_from_two_attempts_is_given_out_once(world: World) -> None:
    """One was kept open when the task was put back, and then failed while the task waited."""
    world.join("w")
    spec = TaskSpec(command=["x"], retries=3)
    rid = world.submit("k", {"spec": spec})
    world.settle()
    token = world.held["w"][0].token
    world.append("pool", [e.DrainRequested(worker="w", reason="hot")])
    kept = e.TaskRequeued(term=1, token=token, cause=Cause.WORKER_LOST, keep_open=True)
    world.append(f"ruling.{rid}", [kept])
    world.finish("w", 1, verdict=Verdict.FAILED, cause=Cause.TEST)
    world.settle()
    world.join("v", "i2", cpu_milli=5000)
    world.settle()
    assert [a.token.split(".")[1] for a in world.held["v"]] == ["2"]
    assert len(world.pool.open) == 1
