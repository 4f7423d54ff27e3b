"""What the views answer, given events. Rule of each test: a log a person can read, then SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from dtf.core import events as e
from dtf.core.codec import encode_batch
from dtf.core.ids import run_id
from dtf.core.model import (
    Axis,
    Case,
    Cause,
    Device,
    Measurement,
    Output,
    Placement,
    Requirement,
    TaskSpec,
    Usage,
    Verdict,
)
from dtf.core.ports import Message
from dtf.projections.ledger import Ledger
from dtf.projections.rows import feed
from dtf.projections.store import Commit, Place, Store
from msgspec import Raw

RUN = run_id("ann", "k1")
Ask = Callable[..., list[tuple[Any, ...]]]
CUDA = TaskSpec(runner="python", target="m:f", require=Requirement(hardware="cuda"))
CPU = TaskSpec(command=["true"])
ITEMS = [Raw(b'{"i":0}'), Raw(b'{"i":1}'), Raw(b'{"i":2}')]


class Log:
    """A log written by hand: a second a message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self("pool", e.PoolCreated(uuid="u", name="main"))
        self("leader", e.LeaderElected(term=1, coordinator="c1", nonce="n"))

    def __call__(self, subject: str, *events: e.Event) -> int:
        sequence = len(self.messages) + 1
        time_ns = 1_764_000_000_000_000_000 + sequence * 1_000_000_000
        data = encode_batch(events)
        self.messages.append(Message(sequence, f"dtf.main.{subject}", data, time_ns))
        return sequence

    def worker(self, name: str = "w1", incarnation: str = "i1") -> None:
        gpu = Device(id="GPU-1", hardware="cuda", name="H200", index=0, memory_bytes=2**37)
        self(
            f"worker.{name}",
            e.WorkerJoined(
                incarnation=incarnation, hardware=["cpu", "cuda"], cpu_milli=4000,
                memory_bytes=2**33, devices=[gpu],
            ),
        )  # fmt: skip

    def submit(self, *groups: e.TasksSubmitted, run: str = RUN, key: str = "k1") -> None:
        size = sum(len(g.items or ()) or g.count or (6 if g.axes else 1) for g in groups)
        self(
            f"run.ann.{run}",
            e.RunSubmitted(key=key, name="nightly", labels={"branch": "main"}),
            *groups,
            e.RunSealed(parts=len(groups), tasks=size),
        )

    def attempt(
        self,
        task: str,
        verdict: Verdict = Verdict.PASSED,
        *,
        number: int = 1,
        run: str = RUN,
        settle: bool = True,
        reports: Sequence[e.CasesReported] = (),
        **finish: Any,
    ) -> str:
        """The task is assigned to w1, finished with the verdict and settled by it."""
        token = f"{task}.{number}.1.x{len(self.messages)}"
        params = Raw(b'{"i":%s}' % task.rpartition("-")[2].encode())
        self(
            "assign.cpu.w1",
            e.TaskAssigned(term=1, run=run, token=token, incarnation="i1", params=params),
        )
        told = [
            e.CasesReported(token=token, n=n, cases=r.cases, measurements=r.measurements)
            for n, r in enumerate(reports)
        ]
        finish = {"duration_us": 1000, **finish}
        ending = e.AttemptFinished(token=token, n=len(told), verdict=verdict, **finish)
        at = (self(f"attempt.w1.{run}", *told, ending), len(told))
        if settle:
            self.settle(task, verdict, token=token, at=at, run=run, cause=ending.cause)
        return token

    def settle(self, task: str, verdict: Verdict, run: str = RUN, **more: Any) -> None:
        self(f"ruling.{run}", e.TaskSettled(term=1, task=task, verdict=verdict, **more))


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Callable[[Log], Ask]]:
    stores: list[Store] = []

    def project(log: Log) -> Ask:
        store = Store(tmp_path / f"t{len(stores)}.duckdb", "main")
        store.prepare()
        stores.append(store)
        ledger = Ledger("main")
        for message in log.messages:
            feed(ledger, message)
        assert "fold_error" not in ledger.pool.voids
        store.commit(Commit(ledger.take(), Place("u", len(log.messages), "", 1, "")))

        def run(sql: str, *params: Any) -> list[tuple[Any, ...]]:
            with store.reading() as cursor:
                return cursor.execute(sql, params).fetchall()

        return run

    yield project
    for store in stores:
        store.close()


def group(
    name: str = "g", spec: TaskSpec = CPU, part: int = 0, label: str = "", **form: Any
) -> e.TasksSubmitted:
    return e.TasksSubmitted(part=part, group=name, spec=spec, label=label, **form)


def test_codes_in_the_tables_are_the_words_of_the_model(ask: Callable[[Log], Ask]) -> None:
    sql = ask(Log())
    verdicts = [row[0] for row in sql("SELECT verdict_of(unnest(range(1, 9)))")]
    causes = [row[0] for row in sql("SELECT cause_of(unnest(range(1, 18)))")]
    assert verdicts == list(Verdict)
    assert causes == list(Cause)
    assert sql("SELECT verdict_of(9), cause_of(18)") == [(None, None)]


def test_a_settled_task_shows_its_accepted_attempt(ask: Callable[[Log], Ask]) -> None:
    log = Log()
    log.worker()
    log.submit(group(spec=CUDA, label="resnet", items=ITEMS))
    log.attempt(
        "g-1",
        Verdict.FALLBACK,
        cause=Cause.FALLBACK,
        duration_us=2**41,
        exit_code=-9,
        message="ran on cpu",
        value=Raw(b'{"a": 1}'),
        usage=Usage(cpu_us=2**40, peak_rss_bytes=2**36),
        placement=Placement(requested="cuda", actual="cpu"),
        output=Output(digest="sha256:1", bytes=7, tail="the end"),
    )
    sql = ask(log)
    columns = (
        "run, task, label, params, hardware, state, verdict, cause, attempts, worker, duration_us, "
        "exit_code, message, value, cpu_us, peak_rss_bytes, requested, actual, output_digest, "
        "output_tail, seq, idx"
    )
    assert sql(f"SELECT {columns} FROM tasks") == [
        (
            RUN, "g-1", "resnet", '{"i":1}', "cuda", "settled", "fallback", "fallback", 1, "w1",
            2**41, -9, "ran on cpu", '{"a": 1}', 2**40, 2**36, "cuda", "cpu", "sha256:1",
            "the end", 7, 0,
        )
    ]  # fmt: skip
    attempt = sql(
        "SELECT state, worker, incarnation, output_bytes, seq, assigned_seq FROM attempts"
    )
    assert attempt == [("finished", "w1", "i1", 7, 6, 5)]
    assert sql("SELECT count(*) FROM failures") == [(1,)]


def test_unknown_is_null(ask: Callable[[Log], Ask]) -> None:
    log = Log()
    log.worker()
    log.submit(group())
    log.attempt("g-0")
    told = ask(log)(
        "SELECT exit_code, message, value, cpu_us, peak_rss_bytes, requested, actual, "
        "output_digest, output_tail, started_at FROM attempts"
    )
    assert told == [(None,) * 10]


def test_what_is_open_is_seen_too(ask: Callable[[Log], Ask]) -> None:
    log = Log()
    log.worker()
    log.submit(group(count=5))
    log.attempt("g-0")
    for index, started in ((1, False), (2, True)):
        token = f"g-{index}.1.1.n"
        log("assign.cpu.w1", e.TaskAssigned(term=1, run=RUN, token=token, incarnation="i1"))
        if started:
            log(f"attempt.w1.{RUN}", e.AttemptStarted(token=token))
    token = log.attempt("g-3", Verdict.FAILED, settle=False)
    requeue = e.TaskRequeued(term=1, token=token, cause=Cause.TEST, delay_ms=500)
    log(f"ruling.{RUN}", requeue)
    sql = ask(log)
    assert sql("SELECT task, state, verdict, attempts FROM tasks ORDER BY task") == [
        ("g-0", "settled", "passed", 1),
        ("g-1", "assigned", None, 1),
        ("g-2", "running", None, 1),
        ("g-3", "waiting", None, 1),
    ]
    assert sql("SELECT task FROM queued_tasks") == [("g-4",)]
    assert sql("SELECT queued, active, settled, passed FROM runs") == [(1, 3, 1, 1)]
    assert sql("SELECT queued, active, settled, passed FROM groups") == [(1, 3, 1, 1)]
    assert sql("SELECT state, count(*) FROM attempts GROUP BY 1 ORDER BY 1") == [
        ("assigned", 1),
        ("finished", 2),
        ("running", 1),
    ]
    assert sql("SELECT task, cause, delay_ms, kept_open FROM requeues") == [
        ("g-3", "test", 500, False)
    ]


def test_an_array_is_one_row_until_it_is_asked_for(ask: Callable[[Log], Ask]) -> None:
    log = Log()
    log.worker()
    log.submit(group(count=100_000))
    log.attempt("g-7")
    log(
        f"ruling.{RUN}",
        e.RangeSettled(
            term=1, group="g", start=0, stop=100_000, verdict=Verdict.CANCELLED,
            cause=Cause.CANCELLED, message="enough",
        ),
    )  # fmt: skip
    sql = ask(log)
    assert sql("SELECT start, stop FROM fact.ranges ORDER BY start") == [(0, 7), (8, 100_000)]
    assert sql("SELECT count(*) FROM fact.tasks") == [(1,)]
    assert sql("SELECT verdict, count(*), min(task_index) FROM tasks GROUP BY 1 ORDER BY 1") == [
        ("cancelled", 99_999, 0),
        ("passed", 1, 7),
    ]
    assert sql("SELECT settled, cancelled, passed FROM runs") == [(100_000, 99_999, 1)]
    assert sql("SELECT message FROM tasks WHERE task = 'g-99999'") == [("enough",)]


def test_parameters_of_tasks_that_never_ran(ask: Callable[[Log], Ask]) -> None:
    """As they would have been given to them: items by place, axes with the last turning fastest."""
    axes = [
        Axis(name="model", values=[Raw(b'"a"'), Raw(b'"b"')]),
        Axis(name="batch", values=[Raw(b"1"), Raw(b"4"), Raw(b"16")]),
    ]
    log = Log()
    log.submit(group(items=ITEMS), group("m", part=1, axes=axes))
    queued = {
        ("g-0", '{"i":0}'), ("g-1", '{"i":1}'), ("g-2", '{"i":2}'),
        ("m-0", '{"model":"a","batch":1}'), ("m-1", '{"model":"a","batch":4}'),
        ("m-2", '{"model":"a","batch":16}'), ("m-3", '{"model":"b","batch":1}'),
        ("m-4", '{"model":"b","batch":4}'), ("m-5", '{"model":"b","batch":16}'),
    }  # fmt: skip
    assert set(ask(log)("SELECT task, params FROM queued_tasks")) == queued
    for name, stop in (("g", 3), ("m", 6)):
        log(
            f"ruling.{RUN}",
            e.RangeSettled(
                term=1, group=name, start=1, stop=stop, verdict=Verdict.NO_CAPACITY,
                cause=Cause.NO_CAPACITY,
            ),
        )  # fmt: skip
    log.settle("g-0", Verdict.CANCELLED, cause=Cause.CANCELLED)
    log.settle("m-0", Verdict.CANCELLED, cause=Cause.CANCELLED)
    assert set(ask(log)("SELECT task, params FROM tasks")) == queued


def test_a_settled_run_keeps_its_numbers(ask: Callable[[Log], Ask]) -> None:
    log = Log()
    log.worker()
    log.submit(group(count=2))
    log.attempt("g-0")
    log.attempt("g-1", Verdict.FAILED, cause=Cause.TEST)
    counts = {"passed": 1, "failed": 1}
    log(f"ruling.{RUN}", e.RunSettled(term=1, verdict="failed", counts=counts))
    log(f"ruling.{RUN}", e.RunForgotten(term=1))
    sql = ask(log)
    columns = "name, publisher, state, verdict, tasks, queued, active, settled, passed, failed"
    assert sql(f"SELECT {columns} FROM runs") == [
        ("nightly", "ann", "settled", "failed", 2, 0, 0, 2, 1, 1)
    ]
    assert sql("SELECT wall_us, labels, forgotten_at IS NOT NULL FROM runs") == [
        (7_000_000, '{"branch":"main"}', True)
    ]
    assert sql("SELECT count(*) FROM live.runs") == [(0,)]
    assert sql("SELECT settled, passed, failed FROM groups") == [(2, 1, 1)]


def test_rejected_and_void_submissions_say_why(ask: Callable[[Log], Ask]) -> None:
    log = Log()
    log("run.bob.someone", e.RunSubmitted(key="k1"))
    log.submit(group(spec=TaskSpec()))
    log(f"ruling.{RUN}", e.SubmissionRejected(term=1, reason="part 0 is bad", fatal=True))
    log.messages.append(Message(len(log.messages) + 1, "dtf.main.run.ann.x", b"{nonsense", 0))
    sql = ask(log)
    assert sql("SELECT run, publisher, source, reason, fatal FROM rejected ORDER BY seq, idx") == [
        ("someone", "bob", "log", "bad_run_id", False),
        (RUN, "ann", "log", "bad_part", False),
        (RUN, None, "leader", "part 0 is bad", True),
        ("x", "ann", "log", "not_json", False),
    ]
    assert sql("SELECT state, reason FROM runs WHERE run = ?", RUN) == [
        ("rejected", "part 0 is bad")
    ]
    assert sql("SELECT type, reason, idx FROM voids WHERE run = ?", RUN) == [
        ("TasksSubmitted", "bad_part", 1)
    ]


def test_one_row_for_each_incarnation_of_a_worker(ask: Callable[[Log], Ask]) -> None:
    log = Log()
    log.worker()
    log.worker(incarnation="i2")
    log("pool", e.DrainRequested(worker="w1", reason="hot"))
    log.worker("w2", "j1")
    log("assign._.w2", e.WorkerLost(term=1, incarnation="j1", reason="silent for 5 s"))
    sql = ask(log)
    columns = "worker, incarnation, state, drained, reason, ended_at IS NULL"
    assert sql(f"SELECT {columns} FROM workers ORDER BY worker_pos") == [
        ("w1", "i1", "superseded", None, None, False),
        ("w1", "i2", "drained", "hot", None, True),
        ("w2", "j1", "lost", None, "silent for 5 s", False),
    ]
    assert sql("SELECT worker, device, name FROM devices ORDER BY seq")[1] == (
        "w1",
        "GPU-1",
        "H200",
    )
    assert sql("SELECT term, coordinator, seq FROM leaders") == [(1, "c1", 2)]


def test_an_attempt_of_a_lost_worker_is_closed_with_the_cause(ask: Callable[[Log], Ask]) -> None:
    log = Log()
    log.worker()
    log.submit(group(count=2))
    for index in (0, 1):
        token = f"g-{index}.1.1.n"
        log("assign.cpu.w1", e.TaskAssigned(term=1, run=RUN, token=token, incarnation="i1"))
    log("assign._.w1", e.WorkerLost(term=1, incarnation="i1", reason="gone"))
    log(f"ruling.{RUN}", e.TaskRequeued(term=1, token="g-0.1.1.n", cause=Cause.WORKER_LOST))
    log.settle("g-1", Verdict.ERROR, cause=Cause.WORKER_LOST)
    sql = ask(log)
    assert sql("SELECT task, state, verdict, cause, reason FROM attempts ORDER BY task") == [
        ("g-0", "closed", None, "worker_lost", "lost"),
        ("g-1", "closed", None, "worker_lost", "lost"),
    ]


def test_a_case_that_passed_when_tried_again_is_a_flake(ask: Callable[[Log], Ask]) -> None:
    log = Log()
    log.worker()
    log.submit(group(label="suite", spec=TaskSpec(runner="pytest")))
    cases = [
        Case(id="a.py::flaky", verdict=Verdict.PASSED, tries=2),
        Case(id="a.py::good", verdict=Verdict.PASSED, detail=Raw(b'{"t":[1,2,3]}')),
        Case(id="a.py::bad", verdict=Verdict.FAILED, tries=2, detail=Raw(b'{"crash":"SIGSEGV"}')),
    ]
    log.attempt("g-0", reports=[e.CasesReported(token="", n=0, cases=cases)])
    sql = ask(log)
    assert sql("SELECT case_id, passed, failed, params FROM flakes") == [
        ("a.py::flaky", 1, 1, None)
    ]
    assert sql("SELECT case_id, tries, detail FROM cases ORDER BY ordinal") == [
        ("a.py::flaky", 2, None),
        ("a.py::good", 1, None),
        ("a.py::bad", 2, '{"crash":"SIGSEGV"}'),
    ]


def test_cases_and_measurements_with_units_and_raw_samples(ask: Callable[[Log], Ask]) -> None:
    log = Log()
    log.worker()
    log.submit(group(label="resnet"))
    measured = Measurement(name="latency", value=1.25, unit="ms", samples=[1.0, 1.5], case="t1")
    case = Case(id="t1", verdict=Verdict.FAILED, duration_us=3, message="no")
    report = e.CasesReported(token="", n=0, cases=[case], measurements=[measured])
    log.attempt("g-0", reports=[report])
    sql = ask(log)
    assert sql("SELECT task, case_id, verdict, duration_us, message, label FROM cases") == [
        ("g-0", "t1", "failed", 3, "no", "resnet")
    ]
    assert sql("SELECT name, value, unit, samples, case_id FROM measurements") == [
        ("latency", 1.25, "ms", [1.0, 1.5], "t1")
    ]


def test_answers_by_label_and_hardware(ask: Callable[[Log], Ask]) -> None:
    """pass_rate, durations, flakes of tasks and of cases, matrix, latest."""
    log = Log()
    log.worker()
    log.submit(group(spec=CUDA, label="resnet", items=ITEMS))
    flaky = [
        e.CasesReported(token="", n=0, cases=[Case(id="t1", verdict=verdict)])
        for verdict in (Verdict.FAILED, Verdict.PASSED)
    ]
    token = log.attempt("g-0", Verdict.FAILED, settle=False, reports=flaky[:1])
    log(f"ruling.{RUN}", e.TaskRequeued(term=1, token=token, cause=Cause.TEST))
    log.attempt("g-0", number=2, reports=flaky[1:], duration_us=3000)
    log.attempt("g-1", Verdict.FAILED, cause=Cause.TEST)
    log.settle("g-2", Verdict.ERROR, cause=Cause.SETUP)
    sql = ask(log)
    assert sql("SELECT label, hardware, tasks, judged, passed, error, rate FROM pass_rate") == [
        ("resnet", "cuda", 3, 2, 1, 1, 0.5)
    ]
    assert sql("SELECT label, hardware, attempts, p50_us, max_us FROM durations") == [
        ("resnet", "cuda", 1, 3000.0, 3000)
    ]
    columns = "label, params, hardware, case_id, attempts, passed, failed, failure_rate"
    assert sql(f"SELECT {columns} FROM flakes ORDER BY case_id NULLS FIRST") == [
        ("resnet", '{"i":0}', "cuda", None, 2, 1, 1, 0.5),
        ("resnet", '{"i":0}', "cuda", "t1", 2, 1, 1, 0.5),
    ]
    assert sql("SELECT params, verdict, p50_us FROM matrix ORDER BY params") == [
        ('{"i":0}', "passed", 3000.0),
        ('{"i":1}', "failed", 1000.0),
        ('{"i":2}', "error", None),
    ]
    assert sql("SELECT count(*) FROM latest_tasks") == [(3,)]
    assert sql("SELECT run, tasks FROM latest_runs") == [(RUN, 3)]


def test_a_verdict_that_names_no_attempt_of_its_task_shows_none(ask: Callable[[Log], Ask]) -> None:
    """A leader gone mad cannot make one task show another one's result."""
    log = Log()
    log.worker()
    log.submit(group(count=2))
    log.attempt("g-0", message="mine")
    log.settle("g-1", Verdict.PASSED, at=(6, 0))
    rows = ask(log)("SELECT task, message, worker FROM tasks ORDER BY task")
    assert rows == [("g-0", "mine", "w1"), ("g-1", None, None)]
