"""A client's view of a run, from the run's messages alone, equals what the whole log says."""

from __future__ import annotations

import random

import pytest
from dtf.core import events as e
from dtf.core.codec import encode_batch
from dtf.core.elections import Elections
from dtf.core.errors import FoldVersionError
from dtf.core.fold import Fold
from dtf.core.follow import FAILURES_MAX, RunView
from dtf.core.ids import attempt_token, run_id, task_id
from dtf.core.model import ABSENT, Case, Cause, Measurement, Output, TaskSpec, Verdict
from dtf.core.ports import Message
from dtf.core.state import VERDICTS
from dtf.core.subjects import Subjects
from dtf.core.submit import GroupPlan, Submission, json_items, submission_messages
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

SUBJECTS = Subjects("main")
RUN = run_id("me", "k")
SPEC = TaskSpec(runner="python", target="a:b")
PASSED, FAILED = Verdict.PASSED, Verdict.FAILED


class Log:
    """A log that folds as it grows, and feeds a view what its filters would let through."""

    def __init__(self, **options) -> None:
        self.fold = Fold("main")
        self.messages: list[Message] = []
        self.view = RunView(RUN, **options)
        self.voids: list[str] = []
        self.put("pool", e.PoolCreated(uuid="u", name="main"))
        self.put("leader", e.LeaderElected(term=1, coordinator="c", nonce="n"))
        for worker in ("w0", "w1"):
            join = e.WorkerJoined(incarnation="i", hardware=["cpu"], cpu_milli=1, memory_bytes=1)
            self.put(f"worker.{worker}", join)

    def put(self, subject: str, *events: e.Event, headers=None, feed: bool = True) -> int:
        sequence = len(self.messages) + 1
        data = encode_batch(events)
        message = Message(sequence, f"dtf.main.{subject}", data, sequence * 10, headers)
        self.messages.append(message)
        self.voids = list(self.fold.apply(message).voids)
        kind, *rest = subject.split(".")
        if feed and (kind == "leader" or (kind in ("attempt", "ruling", "run") and RUN in rest)):
            self.view.feed(message)
        return sequence

    def submit(self, *groups: GroupPlan, **fields) -> None:
        plan = Submission(publisher="me", key="k", groups=list(groups), **fields)
        for subject, events in submission_messages(plan)[1]:
            self.put(subject.removeprefix("dtf.main."), *events)

    def assign(self, task: str, number: int = 1, worker: str = "w0", term: int = 1) -> str:
        token = attempt_token(task, number, term, "n")
        self.put(
            f"assign.cpu.{worker}",
            e.TaskAssigned(term=term, run=RUN, token=token, incarnation="i"),
        )
        return token

    def finish(self, token: str, verdict=PASSED, worker: str = "w0", n: int = 0, **more) -> int:
        return self.put(
            f"attempt.{worker}.{RUN}",
            e.AttemptFinished(token=token, n=n, verdict=verdict, duration_us=7, **more),
        )

    def rule(self, *events: e.Event) -> int:
        return self.put(f"ruling.{RUN}", *events)

    def settle(self, task: str, verdict=PASSED, token=None, at=None, term: int = 1, **more) -> int:
        return self.rule(
            e.TaskSettled(term=term, task=task, verdict=verdict, token=token, at=at, **more)
        )


def plan(name: str = "g", **array) -> GroupPlan:
    return GroupPlan(name=name, spec=SPEC, label=f"the {name}", **array)


def test_a_run_from_submission_to_its_end() -> None:
    log = Log(keep_values=True)
    view = log.view
    assert (view.state, view.size) == ("unknown", 0)
    log.submit(plan(items=json_items([{"model": "a"}, {"model": "b"}])), name="nightly")
    assert (view.state, view.name, view.publisher, view.size) == ("queued", "nightly", "me", 2)
    first, second = log.assign("g-0"), log.assign("g-1", worker="w1")
    log.put(f"attempt.w0.{RUN}", e.AttemptStarted(token=first))
    assert (view.state, view.running, view.queued) == ("running", 1, 1)
    [running] = view.running_tasks()
    assert (running.label, running.worker, running.state) == ("the g[model=a]", "w0", "running")
    at = log.finish(first, n=1, value=Raw(b'{"p50":3}'))
    assert view.counts == {}
    assert view.find("g-0").state == "finished"
    log.settle("g-0", token=first, at=(at, 0))
    output = Output(tail="boom", bytes=4)
    at = log.finish(second, FAILED, "w1", cause=Cause.TEST, message="no", output=output)
    log.settle("g-1", FAILED, second, (at, 0), cause=Cause.TEST)
    assert (view.counts, view.done) == ({"passed": 1, "failed": 1}, False)
    log.rule(e.RunSettled(term=1, verdict="failed", counts={"passed": 1, "failed": 1}))
    assert (view.state, view.verdict, view.settled_ns) == ("settled", "failed", view.sequence * 10)
    [failure] = view.failures()
    assert (failure.id, failure.label, failure.message, failure.tail) == (
        "g-1",
        "the g[model=b]",
        "no",
        "boom",
    )
    assert (failure.worker, failure.attempts, failure.cause) == ("w1", 1, Cause.TEST)
    assert {task: bytes(value) for task, value in view.values.items()} == {"g-0": b'{"p50":3}'}
    assert bytes(view.find("g-0").value) == b'{"p50":3}'
    assert bytes(view.params("g-1")) == b'{"model":"b"}'
    assert not any(log.voids)


def test_only_a_ruling_ends_a_task() -> None:
    log = Log()
    log.submit(plan())
    token = log.assign("g-0")
    log.finish(token)
    assert (log.view.settled, log.view.state) == (0, "running")
    log.rule(e.TaskRequeued(term=1, token=token, cause=Cause.WORKER_LOST))
    view = log.view.find("g-0")
    assert (view.state, view.attempts, view.cause) == ("queued", 1, Cause.WORKER_LOST)
    assert log.view.requeues == 1
    again = log.assign("g-0", 2)
    log.finish(token, FAILED)
    at = log.finish(again)
    log.settle("g-0", token=again, at=(at, 0))
    assert log.view.counts == {"passed": 1}


def test_rulings_of_a_deposed_leader_do_not_count() -> None:
    log = Log()
    log.submit(plan(count=2))
    log.put("leader", e.LeaderElected(term=2, coordinator="d", nonce="n"))
    log.settle("g-0", FAILED, term=1)
    assert log.view.counts == {}
    log.put("leader", e.LeaderElected(term=9, coordinator="x", nonce="n"))
    log.settle("g-0", term=2)
    assert log.view.counts == {"passed": 1}
    assert log.view.term == 2


def test_where_no_term_is_known_the_first_election_is_believed() -> None:
    log = Log()
    view = RunView(RUN)
    log.submit(plan(count=2))
    log.settle("g-0")
    log.put("leader", e.LeaderElected(term=2, coordinator="d", nonce="n"))
    log.settle("g-1", term=1)
    for message in log.messages[3:]:
        view.feed(message)
    assert (view.term, view.counts) == (2, {"passed": 1})


def test_a_newer_fold_stops_the_client() -> None:
    view = RunView(RUN)
    claim = e.LeaderElected(term=2, coordinator="d", nonce="n", fold_version=e.FOLD_VERSION + 1)
    with pytest.raises(FoldVersionError) as caught:
        view.feed(Message(1, SUBJECTS.leader, encode_batch([claim])))
    assert "Upgrade" in caught.value.remedy


def test_a_range_settles_what_is_not_busy() -> None:
    log = Log()
    log.submit(plan(count=1000))
    assigned, started = log.assign("g-5"), log.assign("g-6")
    log.put(f"attempt.w0.{RUN}", e.AttemptStarted(token=started))
    log.rule(
        e.RangeSettled(
            term=1,
            group="g",
            start=0,
            stop=1000,
            verdict=Verdict.CANCELLED,
            cause=Cause.CANCELLED,
            message="by me",
        )
    )
    assert log.view.counts == {"cancelled": 999}  # g-5 looks idle: it never said it started
    for token, task, n in ((assigned, "g-5", 0), (started, "g-6", 1)):
        at = log.finish(token, n=n)
        log.settle(task, token=token, at=(at, 0))
    assert log.view.counts == {"cancelled": 998, "passed": 2}
    assert log.view.tasks == {}
    view = log.view.find("g-7")
    assert (view.verdict, view.cause, view.message) == ("cancelled", "cancelled", "by me")
    assert log.view.find("g-5").verdict == "passed"
    assert log.view.ranges[0].message == "by me"
    counts = dict(log.fold.pool.runs[RUN].counts)
    assert counts == log.view.counts


def test_a_rejected_run_says_why() -> None:
    log = Log()
    log.put(f"run.me.{RUN}", e.RunSubmitted(key="k"))
    assert log.view.state == "open"
    log.rule(e.SubmissionRejected(term=1, reason="bad part 3", fatal=True))
    assert (log.view.state, log.view.rejected, log.view.done) == ("rejected", "bad part 3", True)
    log.submit(plan())
    assert log.view.size == 0


def test_a_conflict_is_told_and_changes_nothing() -> None:
    log = Log()
    log.submit(plan())
    at = log.put(f"run.me.{RUN}", e.RunSubmitted(key="k", name="other"))
    assert log.voids == ["conflict"]
    log.rule(e.SubmissionRejected(term=1, reason="conflict", sequence=at, index=0))
    assert (log.view.state, log.view.rejections[0].at) == ("queued", (at, 0))


@pytest.mark.parametrize("verdict", ["incomplete", "cancelled", "empty"])
def test_every_end_is_an_end(verdict: str) -> None:
    log = Log()
    if verdict == "empty":
        log.submit()
    else:
        log.put(f"run.me.{RUN}", e.RunSubmitted(key="k"))
        log.put(f"run.me.{RUN}", e.CancelRequested())
    log.rule(e.RunSettled(term=1, verdict=verdict, counts={}))
    assert (log.view.state, log.view.verdict) == ("settled", verdict)
    log.settle("g-0")
    assert log.view.counts == {}


def test_parts_may_come_in_any_order_and_twice() -> None:
    log = Log()
    subject = f"run.me.{RUN}"
    parts = [e.TasksSubmitted(part=n, group=f"g{n}", spec=SPEC, count=n + 1) for n in range(3)]
    log.put(subject, e.RunSealed(parts=3, tasks=6))
    for part in (2, 0, 2, 1):
        log.put(subject, parts[part])
        assert log.view.state == "open"
    log.put(subject, e.RunSubmitted(key="k"))
    assert (log.view.state, log.view.size, log.view.queued) == ("queued", 6, 6)


def test_strangers_and_forged_messages_change_nothing() -> None:
    log = Log()
    log.submit(plan())
    log.put(f"run.eve.{RUN}", e.CancelRequested())
    assert not log.view.cancelling
    settled = e.TaskSettled(term=1, task="g-0", verdict=PASSED)
    log.put(f"ruling.{RUN}", settled, headers={"Nats-Subject": "x"})
    log.put(f"attempt.w0.{RUN}", settled)
    log.put(f"ruling.{RUN}", e.AttemptStarted(token="g-0.1.1.n"))
    log.view.feed(Message(90, f"dtf.main.ruling.{RUN}", b"garbage"))
    log.view.feed(Message(91, "other", b"[]"))
    assert (log.view.counts, log.view.running) == ({}, 0)
    log.put(f"run.me.{RUN}", e.CancelRequested(reason="enough"), feed=False)
    log.view.feed(Message(92, f"dtf.main.run.me.{RUN}", log.messages[-1].data))
    assert log.view.cancelling


def test_a_message_fed_twice_changes_nothing() -> None:
    log = Log(keep_cases=True)
    log.submit(plan())
    token = log.assign("g-0")
    report = e.CasesReported(token=token, n=0, cases=[Case(id="a", verdict=PASSED)])
    log.put(f"attempt.w0.{RUN}", report)
    log.put(f"attempt.w0.{RUN}", report)
    assert log.voids == ["duplicate"]
    log.view.feed(log.messages[-1])
    at = log.finish(token, n=1)
    log.settle("g-0", token=token, at=(at, 0))
    log.settle("g-0", token=token, at=(at, 0))
    assert [case.id for case in log.view.find("g-0").cases] == ["a"]
    assert log.view.counts == {"passed": 1}


def test_cases_of_an_attempt_that_does_not_count_are_dropped() -> None:
    log = Log(keep_cases=True)
    log.submit(plan())
    first = log.assign("g-0")
    number = Measurement(name="latency", value=1.5, unit="ms")
    lost = e.CasesReported(token=first, n=0, measurements=[number])
    log.put(f"attempt.w0.{RUN}", lost)
    log.rule(e.TaskRequeued(term=1, token=first, cause=Cause.WORKER_LOST))
    second = log.assign("g-0", 2)
    kept = e.CasesReported(token=second, n=0, measurements=[number, number])
    log.put(f"attempt.w0.{RUN}", kept)
    at = log.finish(second, n=1)
    log.settle("g-0", token=second, at=(at, 0))
    view = log.view.find("g-0")
    assert (len(view.measurements), view.attempts, view.worker) == (2, 2, "w0")


def test_values_and_texts_are_kept_only_when_asked_for() -> None:
    logs = Log(), Log(keep_values=True), Log(keep_passed=True)
    for log in logs:
        log.submit(plan())
        token = log.assign("g-0")
        at = log.finish(token, value=Raw(b"1"), message="fine")
        log.settle("g-0", token=token, at=(at, 0))
    plain, values, passed = (log.view for log in logs)
    assert (plain.tasks, plain.values) == ({}, {})
    assert (values.tasks, bytes(values.values["g-0"])) == ({}, b"1")
    assert passed.tasks["g-0"].message == "fine"
    assert passed.tasks["g-0"].value is ABSENT


def test_a_flood_of_failures_keeps_bounded_texts() -> None:
    count = FAILURES_MAX + 5
    log = Log()
    log.submit(plan(count=count))
    for index in range(count):
        token = log.assign(f"g-{index}")
        at = log.finish(token, FAILED, message="no")
        log.settle(f"g-{index}", FAILED, token, (at, 0))
    views = list(log.view.failures())
    assert len(views) == count
    assert sum(bool(view.message) for view in views) == FAILURES_MAX


def test_a_forgotten_key_begins_anew() -> None:
    log = Log()
    log.submit()
    log.rule(e.RunSettled(term=1, verdict="empty", counts={}))
    log.rule(e.RunForgotten(term=1))
    assert (log.view.state, log.view.forgotten) == ("unknown", True)
    log.submit(plan(count=4))
    assert (log.view.size, log.view.forgotten, log.view.state) == (4, False, "queued")


def test_unknown_tasks_are_not_found() -> None:
    log = Log()
    log.submit(plan(count=2))
    assert log.view.find("g-2") is None
    assert log.view.find("h-0") is None
    assert log.view.find("nonsense") is None
    assert log.view.params("g-2") is ABSENT
    assert [(g.group, i, v) for g, i, v in log.view.verdicts()] == [("g", 0, None), ("g", 1, None)]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_the_view_agrees_with_the_fold_in_any_world(seed: int) -> None:
    """A leader rules as it likes over random attempts, duplicates, losses and elections."""
    world = random.Random(seed)
    log = Log(elections=Elections(0))
    log.submit(plan("a", count=6), plan("b", count=3))
    term, tries = 1, {}
    for _ in range(world.randint(10, 80)):
        pool, run = log.fold.pool, log.fold.pool.runs[RUN]
        group = world.choice(list(run.groups.values())) if run.groups else None
        if group is None:
            break
        name = task_id(group.name, world.randrange(group.size))
        known = run.tasks.get(name)
        act = world.randrange(8)
        if act <= 1 and (known is None or known.waiting):
            tries[name] = (known.tries if known else 0) + 1
            log.assign(name, tries[name], world.choice(["w0", "w1"]), term)
        elif act == 2 and pool.open:
            attempt = world.choice(list(pool.open.values()))
            event = e.AttemptStarted(token=attempt.token, n=attempt.next_n)
            log.put(f"attempt.{attempt.worker}.{RUN}", event)
        elif act <= 4 and pool.open:
            attempt = world.choice(list(pool.open.values()))
            verdict = world.choice([PASSED, FAILED])
            log.finish(attempt.token, verdict, attempt.worker, attempt.next_n)
            if world.random() < 0.2:
                log.finish(attempt.token, verdict, attempt.worker, attempt.next_n)
        elif act == 5 and known is not None and known.finish is not None and not known.settled:
            finish = known.finish
            stale = world.random() < 0.2
            at = (finish.sequence, finish.index)
            log.settle(name, finish.verdict, finish.token, at, term=term - stale)
        elif act == 6 and pool.open:
            attempt = world.choice(list(pool.open.values()))
            if not attempt.task.settled:
                keep = world.random() < 0.3
                requeue = e.TaskRequeued(
                    term=term, token=attempt.token, cause=Cause.WORKER_LOST, keep_open=keep
                )
                log.rule(requeue)
        elif act == 7 and world.random() < 0.3:
            stop = world.randint(1, group.size)
            start = world.randrange(stop)
            log.rule(
                e.RangeSettled(
                    term=term,
                    group=group.name,
                    start=start,
                    stop=stop,
                    verdict=Verdict.NO_CAPACITY,
                    cause=Cause.NO_CAPACITY,
                )
            )
        elif act == 7 and world.random() < 0.3:
            term += 1
            log.put("leader", e.LeaderElected(term=term, coordinator="c", nonce="n"))
    _settle_the_rest(log, term)
    run, view = log.fold.pool.runs[RUN], log.view
    assert view.counts == {name: count for name, count in run.counts.items() if count}
    for name, group in run.groups.items():
        seen = bytes(view.submission.groups[name].verdicts)
        assert seen == bytes(group.verdicts), (name, [VERDICTS[c - 1] for c in seen])
    assert view.running == 0


def _settle_the_rest(log: Log, term: int) -> None:
    """Every task that is not settled gets a ruling of its own, as before any RunSettled."""
    run = log.fold.pool.runs[RUN]
    for name, group in run.groups.items():
        for index, code in enumerate(group.verdicts):
            if not code:
                log.settle(task_id(name, index), Verdict.ERROR, term=term)


def test_a_run_is_not_over_by_a_ruling_that_a_last_part_overtook() -> None:
    """The leader ends a cancelled run with parts missing; the parts land before that ruling."""
    log = Log()
    part = e.TasksSubmitted(part=0, group="g", spec=SPEC, count=2)
    log.put(f"run.me.{RUN}", e.RunSubmitted(key="k"), e.CancelRequested())
    log.put(f"run.me.{RUN}", part, e.RunSealed(parts=1, tasks=2))
    log.put(f"ruling.{RUN}", e.RunSettled(term=1, verdict="cancelled", counts={}))
    assert log.voids[0] == "unsettled_tasks"
    assert not log.view.done
    cancelled = {"term": 1, "verdict": Verdict.CANCELLED, "cause": Cause.CANCELLED}
    log.put(f"ruling.{RUN}", e.RangeSettled(group="g", start=0, stop=2, **cancelled))
    log.put(f"ruling.{RUN}", e.RunSettled(term=1, verdict="cancelled", counts={"cancelled": 2}))
    assert log.voids[0] == ""
    assert (log.view.verdict, log.view.counts) == ("cancelled", {"cancelled": 2})


def test_what_a_stranger_had_ended_under_the_id_of_a_run_is_not_its_end() -> None:
    log = Log()
    part = e.TasksSubmitted(part=0, group="g", spec=SPEC, count=2)
    log.put(f"run.you.{RUN}", part, e.CancelRequested())
    log.put(f"ruling.{RUN}", e.RunSettled(term=1, verdict="cancelled", counts={}))
    assert log.view.verdict == "cancelled"
    log.submit(GroupPlan(name="g", spec=SPEC, count=3))
    assert log.voids[0] == ""
    assert (log.view.done, log.view.size, log.view.publisher) == (False, 3, "me")
