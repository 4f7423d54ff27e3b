"""`dtf plan` asks the scheduler's own matcher."""

from __future__ import annotations

from pathlib import Path

from dtf.core.events import WorkerJoined
from dtf.core.exit_codes import ExitCode
from dtf.core.model import Device, Requirement, TaskSpec
from dtf.core.submit import GroupPlan
from dtf.core.suite_plan import Suite
from dtf.tui.planning import Candidate, needs, plan_listing
from dtf.tui.sizing import share_of, worker_count
from dtf.tui.suites import Chosen

GIB = 2**30


def candidate(name: str, *devices: Device, cpu_milli: int = 4000) -> Candidate:
    hardware = ["cpu", *dict.fromkeys(device.hardware for device in devices)]
    join = WorkerJoined(
        incarnation="i",
        hardware=hardware,
        cpu_milli=cpu_milli,
        memory_bytes=8 * GIB,
        devices=list(devices),
    )
    return Candidate(name, join)


def chosen(*requirements: Requirement, waits: bool = False) -> list[Chosen]:
    plans = [
        GroupPlan(
            name=f"g{n}", label=f"g{n}", spec=TaskSpec(command=["true"], require=each), count=5
        )
        for n, each in enumerate(requirements)
    ]
    suite = Suite(name="s", path=Path("s.toml"), tasks=[], wait_for_capacity=waits)
    return [Chosen(suite, plans)]


GPU = Device(id="GPU-1", hardware="cuda", memory_bytes=16 * GIB)
CUDA = Requirement(hardware="cuda", device_memory_bytes=12 * GIB)


def test_everything_fits_somewhere() -> None:
    plan = plan_listing(chosen(Requirement(), CUDA), [candidate("a"), candidate("b", GPU)], "here")
    assert plan.exit_code == ExitCode.PASSED
    assert [(row[4], row[5]) for row in plan.rows] == [("ok", 2), ("ok", 1)]
    assert plan.rows[1][6] == ["a: serves cpu, not cuda"]


def test_what_fits_nowhere_is_forecast_with_every_reason() -> None:
    small = candidate("small", Device(id="GPU-2", hardware="cuda", memory_bytes=8 * GIB))
    plan = plan_listing(chosen(CUDA), [candidate("a"), small], "here")
    assert plan.exit_code == ExitCode.INCOMPLETE
    assert plan.rows[0][4:6] == ["no_capacity", 0]
    assert plan.rows[0][6] == [
        "a: serves cpu, not cuda",
        "small: has 0 cuda devices of 12.0 GiB or more, not 1",
    ]
    assert "5 tasks would end as no_capacity" in plan.notes[1]


def test_a_suite_that_waits_for_capacity_is_not_incomplete() -> None:
    plan = plan_listing(chosen(CUDA, waits=True), [candidate("a")], "here")
    assert plan.exit_code == ExitCode.PASSED
    assert plan.rows[0][4] == "queued"


def test_a_task_is_pinned_to_a_worker_by_its_name() -> None:
    pinned = chosen(Requirement(labels={"worker": "w1"}))
    plan = plan_listing(pinned, [candidate("w1"), candidate("w2")], "here")
    assert plan.rows[0][4:] == ["ok", 1, ["w2: label worker is w2, not w1"]]


def test_many_reasons_are_counted() -> None:
    crowd = [candidate(f"w{n}") for n in range(10)]
    plan = plan_listing(chosen(CUDA), crowd, "here")
    assert plan.rows[0][6][-1] == "and 7 more"


def test_needs_are_said_in_a_few_words() -> None:
    require = Requirement(
        hardware="cuda",
        devices=2,
        device_memory_bytes=16 * GIB,
        cpu_milli=1500,
        memory_bytes=4 * GIB,
        labels={"rack": "b7"},
    )
    assert needs(require) == "cuda x2 16.0 GiB, 1.5 cores, 4.00 GiB, rack=b7"
    assert needs(Requirement()) == "cpu, 1 core"


def test_workers_share_the_machine_and_the_largest_task_fits_one() -> None:
    cores_milli, memory = share_of(1)
    assert worker_count(None, cores_milli) == 1
    assert worker_count(None, 1, memory) == 1
    assert worker_count(7) == 7
    assert worker_count(0) == 0
    count = worker_count(None)
    assert 1 <= count <= 4
    assert share_of(count)[0] >= min(1000, cores_milli)
