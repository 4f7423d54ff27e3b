"""`dtf plan`. Rule: nothing is sent; who could run what is asked of the scheduler's own matcher.

With a pool: its living workers. Without: the workers `dtf run` would start on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from cyclopts import Parameter

from ..coordinator.matching import worker_fits
from ..core.events import WorkerJoined
from ..core.exit_codes import ExitCode
from ..core.listing import Column, Listing
from ..core.model import Device, Requirement
from ..core.pool_file import find_pool_file
from ..core.session import current
from ..core.submit import GroupPlan
from .formats import cores, plural, size
from .running import Expression, Hardware, Model, say_nothing
from .sizing import share_of, worker_count
from .suites import Chosen, NothingSelected, Wishes, choose, largest, parse_filters

REASONS_SHOWN = 3
_WORKERS = """
SELECT worker, incarnation, hardware, cpu_milli, memory_bytes, labels FROM workers
WHERE state = 'up' ORDER BY worker
"""
_DEVICES = """
SELECT incarnation, device, hardware, name, memory_bytes FROM devices ORDER BY ordinal
"""
COLUMNS = (
    Column(name="task", flexible=True),
    Column(name="tasks", kind="count"),
    Column(name="matrix", kind="json", flexible=True),
    Column(name="needs"),
    Column(name="state", title="fits", kind="state"),
    Column(name="workers", title="on", kind="count"),
    Column(name="reasons", title="why not the others", kind="json", wraps=True),
)


class Candidate(NamedTuple):
    """A worker a task could be placed on."""

    name: str
    join: WorkerJoined


async def plan(
    *suites: Path,
    model: Model = None,
    hardware: Hardware = None,
    keyword: Expression = "",
    workers: Annotated[int | None, Parameter(name=["--workers", "-n"])] = None,
) -> Any:
    """What a run would do: every task with its count, and the workers able to run it.

    Exit code 4 when some task would end as no_capacity.

    Parameters
    ----------
    suites
        Suite files.
    model
        Only tasks with axis=value; several values by commas; may be repeated for other axes.
    hardware
        Only tasks for these accelerator classes.
    keyword
        Only tasks whose name matches: words with and, or, not.
    workers
        Worker processes of the local pool.
    """
    filters = parse_filters(model or (), hardware or (), keyword)
    try:
        chosen = choose(suites, filters, Wishes())
    except NothingSelected as nothing:
        return say_nothing(nothing)
    candidates, where = await _candidates(chosen, workers)
    return plan_listing(chosen, candidates, where)


def plan_listing(chosen: Sequence[Chosen], candidates: Sequence[Candidate], where: str) -> Listing:
    """One row for each group; the exit code says whether everything fits somewhere."""
    plans = [plan for each in chosen for plan in each.plans]
    waits = all(each.suite.wait_for_capacity for each in chosen)
    rows = [_row(plan, candidates, waits) for plan in plans]
    stuck = sum(plan.size for plan, row in zip(plans, rows, strict=True) if row[5] == 0)
    total = sum(plan.size for plan in plans)
    notes = [f"{plural(total, 'task')}, {plural(len(candidates), 'worker')} {where}."]
    if stuck:
        end = "would wait for a worker" if waits else "would end as no_capacity"
        notes.append(f"{plural(stuck, 'task')} {end}: no living worker could ever run them.")
    return Listing(
        kind="plan",
        columns=COLUMNS,
        rows=rows,
        notes=notes,
        exit_code=ExitCode.INCOMPLETE if stuck and not waits else ExitCode.PASSED,
    )


def _row(plan: GroupPlan, candidates: Sequence[Candidate], waits: bool) -> list[Any]:
    require = plan.spec.require
    misfits = {each.name: worker_fits(each.join, require, each.name) for each in candidates}
    fitting = sum(not reasons for reasons in misfits.values())
    told = [f"{name}: {', '.join(reasons)}" for name, reasons in misfits.items() if reasons]
    if not candidates:
        told = ["there is no living worker"]
    if len(told) > REASONS_SHOWN and not current().machine:
        told = [*told[:REASONS_SHOWN], f"and {len(told) - REASONS_SHOWN} more"]
    state = "ok" if fitting else ("queued" if waits else "no_capacity")
    return [plan.label, plan.size, _shape(plan), needs(plan.spec.require), state, fitting, told]


def _shape(plan: GroupPlan) -> dict[str, int] | None:
    """Axis -> number of values; None of an array without axes."""
    return {axis.name: len(axis.values) for axis in plan.axes} if plan.axes else None


def needs(require: Requirement) -> str:
    """A requirement in a few words: `cuda x1 16 GiB, 2 cores, 4 GiB, rack=b7`."""
    parts = [require.hardware]
    if require.device_count:
        parts[0] += f" x{require.device_count}"
    if require.device_memory_bytes:
        parts[0] += f" {size(require.device_memory_bytes)}"
    parts.append(f"{cores(require.cpu_milli)} core{'' if require.cpu_milli == 1000 else 's'}")
    if require.memory_bytes:
        parts.append(size(require.memory_bytes))
    parts += [f"{key}={value}" for key, value in require.labels.items()]
    return ", ".join(parts)


async def _candidates(chosen: Sequence[Chosen], workers: int | None) -> tuple[list[Candidate], str]:
    """The workers to match against, and where they are."""
    config = current().config
    if config.server is None and find_pool_file(config.data_dir) is None:
        wanted = workers if workers is not None else config.workers
        count = worker_count(wanted, *largest(chosen))
        return _local(count, config.worker), "of the pool that `dtf run` would start here"
    return await _living(), f"of pool {config.pool}"


def _local(count: int, name: str) -> list[Candidate]:
    """What the workers of a local pool would join with."""
    from ..worker.devices.detect import detect, hardware_classes

    facts = detect()
    cpu_milli, memory = share_of(count)
    found = []
    for number in range(count):
        devices = facts.devices if number == 0 else []
        join = WorkerJoined(
            incarnation="planned",
            hardware=hardware_classes(devices, ()),
            cpu_milli=cpu_milli,
            memory_bytes=memory,
            devices=devices,
        )
        found.append(Candidate(f"{name}-{number + 1}", join))
    return found


async def _living() -> list[Candidate]:
    from .history import open_history

    async with open_history() as history:
        workers = await history.rows(_WORKERS)
        devices: dict[str, list[Device]] = {}
        for incarnation, device, hardware, name, memory in await history.rows(_DEVICES):
            found = Device(id=device, hardware=hardware, name=name or "", memory_bytes=memory)
            devices.setdefault(incarnation, []).append(found)
    return [
        Candidate(
            name,
            WorkerJoined(
                incarnation=incarnation,
                hardware=list(hardware),
                cpu_milli=cpu_milli,
                memory_bytes=memory,
                devices=devices.get(incarnation, []),
                labels=msgspec.json.decode(labels, type=dict[str, str]) if labels else {},
            ),
        )
        for name, incarnation, hardware, cpu_milli, memory, labels in workers
    ]
