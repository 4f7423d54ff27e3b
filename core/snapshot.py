"""A pool's state as bytes, and back.

Rule: a decoded state has the digest of the encoded one, and every message folds on it alike.

A snapshot is only a cache of the log up to `Pool.sequence` (protocol F8): whoever has lost it folds
again. JSON, because the events inside are JSON. Cost: proportional to the state. The encoding is
not canonical (`state.digest` is): it keeps the order in which things came.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from .errors import DtfError
from .events import RunSealed, RunSubmitted, TasksSubmitted, WorkerJoined
from .state import Attempt, Finish, Group, Pool, Run, Task, Worker

SNAPSHOT_VERSION = 1


class SnapshotCorrupt(DtfError):
    """The bytes are no snapshot this version can read; fold the log from its start instead."""


class GroupImage(Struct, array_like=True):
    submitted: TasksSubmitted
    verdicts: bytes
    settled: int
    finishes: int
    mean_us: int


class AttemptImage(Struct, array_like=True):
    token: str
    number: int
    worker: str
    incarnation: str
    devices: list[str]
    assigned_at: int
    next_n: int
    started: bool
    revoked: str
    orphaned: str
    kept: bool


class TaskImage(Struct, array_like=True):
    id: str
    group: str
    index: int
    tries: int
    failures: int
    losses: int
    delay_ms: int
    settled: bool
    finish: Finish | None
    open: list[AttemptImage]


class RunImage(Struct, array_like=True):
    id: str
    publisher: str
    opened_at: int
    submitted: RunSubmitted | None
    digest: str
    parts: list[tuple[int, str]]
    sealed: RunSealed | None
    groups: list[GroupImage]
    size: int
    invalid: str
    closed: bool
    closed_at: int
    cancel_at: int
    cancel_tasks: dict[str, int]
    tasks: list[TaskImage]
    counts: dict[str, int]
    settled_tasks: int
    settled: str


class WorkerImage(Struct, array_like=True):
    name: str
    join: WorkerJoined
    joined_at: int
    draining: bool
    drained: str
    ended: str
    past: tuple[str, ...]


class StrayImage(Struct, array_like=True):
    """A task with open attempts that its run forgot: the run was settled, replaced or forgotten."""

    run: int
    """Index among `PoolImage.runs`, then `PoolImage.former`."""
    group: int
    """Index among `PoolImage.lost_groups`."""
    task: TaskImage


class PoolImage(Struct, kw_only=True):
    """Everything a `Pool` holds."""

    version: int = SNAPSHOT_VERSION
    name: str
    uuid: str
    sequence: int
    term: int
    coordinator: str
    nonce: str
    elected_at: int
    fold_version: int
    admins: list[str]
    remember_ms: int
    incomplete_ms: int
    voids: dict[str, int]
    runs: list[RunImage]
    workers: list[WorkerImage]
    former: list[RunImage]
    """Runs the pool no longer knows by name, of which attempts are still open."""
    lost_groups: list[GroupImage]
    strays: list[StrayImage]
    open: list[str]
    """Tokens of the open attempts, in the pool's order."""


_decoder = msgspec.json.Decoder(PoolImage)
_PLAIN = (
    "name", "uuid", "sequence", "term", "coordinator", "nonce", "elected_at", "fold_version",
    "remember_ms", "incomplete_ms",
)  # fmt: skip


# -- encoding --------------------------------------------------------------------------------------
def encode_pool(pool: Pool) -> bytes:
    """The whole state as JSON."""
    runs = list(pool.runs.values())
    strays, former, lost = _strays(pool)
    places = {id(run): place for place, run in enumerate([*runs, *former])}
    groups = {id(group): place for place, group in enumerate(lost)}
    image = PoolImage(
        **{name: getattr(pool, name) for name in _PLAIN},
        admins=pool.admins,
        voids=pool.voids,
        runs=[_run_image(run) for run in runs],
        workers=[
            WorkerImage(name, w.join, w.joined_at, w.draining, w.drained, w.ended, w.past)
            for name, w in pool.workers.items()
        ],
        former=[_run_image(run) for run in former],
        lost_groups=[_group_image(group) for group in lost],
        strays=[StrayImage(places[id(t.run)], groups[id(t.group)], _task_image(t)) for t in strays],
        open=list(pool.open),
    )
    return msgspec.json.encode(image)


def _strays(pool: Pool) -> tuple[list[Task], list[Run], list[Group]]:
    """Tasks with open attempts that no run of the pool leads to, their runs and their groups."""
    known = {id(task) for run in pool.runs.values() for task in run.tasks.values()}
    strays: dict[int, Task] = {}
    for attempt in pool.open.values():
        if id(attempt.task) not in known:
            strays[id(attempt.task)] = attempt.task
    tasks = list(strays.values())
    former = {id(t.run): t.run for t in tasks if pool.runs.get(t.run.id) is not t.run}
    groups = {id(t.group): t.group for t in tasks}
    return tasks, list(former.values()), list(groups.values())


def _run_image(run: Run) -> RunImage:
    return RunImage(
        run.id, run.publisher, run.opened_at, run.submitted, run.digest, list(run.parts.items()),
        run.sealed, [_group_image(group) for group in run.groups.values()], run.size, run.invalid,
        run.closed, run.closed_at, run.cancel_at, run.cancel_tasks,
        [_task_image(task) for task in run.tasks.values()], run.counts, run.settled_tasks,
        run.settled,
    )  # fmt: skip


def _group_image(group: Group) -> GroupImage:
    return GroupImage(
        group.submitted, bytes(group.verdicts), group.settled, group.finishes, group.mean_us
    )


def _task_image(task: Task) -> TaskImage:
    return TaskImage(
        task.id, task.group.name, task.index, task.tries, task.failures, task.losses,
        task.delay_ms, task.settled, task.finish, [_attempt_image(a) for a in task.open],
    )  # fmt: skip


def _attempt_image(a: Attempt) -> AttemptImage:
    return AttemptImage(
        a.token, a.number, a.worker, a.incarnation, a.devices, a.assigned_at, a.next_n, a.started,
        a.revoked, a.orphaned, a.kept,
    )  # fmt: skip


# -- decoding --------------------------------------------------------------------------------------
def decode_pool(data: bytes) -> Pool:
    """The state that was encoded. Raises `SnapshotCorrupt`."""
    try:
        image = _decoder.decode(data)
        if image.version != SNAPSHOT_VERSION:
            raise SnapshotCorrupt(f"snapshot version {image.version} is not {SNAPSHOT_VERSION}")
        return _pool(image)
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError) as error:
        raise SnapshotCorrupt(f"the snapshot of the fold cannot be read: {error}") from error


def _pool(image: PoolImage) -> Pool:
    pool = Pool(image.name)
    for name in _PLAIN:
        setattr(pool, name, getattr(image, name))
    pool.admins, pool.voids = image.admins, image.voids
    opened: dict[str, Attempt] = {}
    runs = [_run(each, opened) for each in image.runs]
    pool.runs = {run.id: run for run in runs}
    pool.workers = {each.name: _worker(each) for each in image.workers}
    every = runs + [_run(each, {}) for each in image.former]
    lost = [_group(each) for each in image.lost_groups]
    for stray in image.strays:
        _task(stray.task, every[stray.run], lost[stray.group], opened)
    pool.open = {token: opened[token] for token in image.open}
    pool.index_open()
    return pool


def _worker(image: WorkerImage) -> Worker:
    worker = Worker(image.name, image.join, image.joined_at)
    worker.draining, worker.drained, worker.ended = image.draining, image.drained, image.ended
    worker.past = image.past
    return worker


def _group(image: GroupImage) -> Group:
    group = Group(image.submitted)
    group.verdicts = bytearray(image.verdicts)
    group.settled, group.finishes, group.mean_us = image.settled, image.finishes, image.mean_us
    return group


def _run(image: RunImage, opened: dict[str, Attempt]) -> Run:
    run = Run(image.id, image.publisher, image.opened_at)
    run.submitted, run.digest, run.sealed = image.submitted, image.digest, image.sealed
    run.parts = dict(image.parts)
    run.groups = {each.submitted.group: _group(each) for each in image.groups}
    run.size, run.invalid = image.size, image.invalid
    run.closed, run.closed_at = image.closed, image.closed_at
    run.cancel_at, run.cancel_tasks = image.cancel_at, image.cancel_tasks
    run.counts, run.settled_tasks, run.settled = image.counts, image.settled_tasks, image.settled
    run.tasks = {t.id: _task(t, run, run.groups[t.group], opened) for t in image.tasks}
    return run


def _task(image: TaskImage, run: Run, group: Group, opened: dict[str, Attempt]) -> Task:
    task = Task(run, group, image.index, image.id)
    task.tries, task.failures, task.losses = image.tries, image.failures, image.losses
    task.delay_ms, task.settled, task.finish = image.delay_ms, image.settled, image.finish
    for each in image.open:
        attempt = Attempt(
            task, each.token, each.number, each.worker, each.incarnation, each.devices,
            each.assigned_at,
        )  # fmt: skip
        attempt.next_n, attempt.started = each.next_n, each.started
        attempt.revoked, attempt.orphaned, attempt.kept = each.revoked, each.orphaned, each.kept
        task.open.append(attempt)
        opened[each.token] = attempt
    return task
