"""Who gets which waiting task. Rule: free slots first, then work ahead in equal shares, then idle
workers take back.

Sans-IO. Everything given out is reserved on the worker's desk at once, and released only when the
log says the attempt or the incarnation ended (protocol A5, A6, L4).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..core import events as e
from ..core.codec import BATCH_EVENTS_MAX
from ..core.events import Event
from ..core.model import ABSENT, TaskSpec, task_params
from ..core.state import Attempt, Group, Pool, Run, Worker
from .capacity import Desk, seat_for
from .queue import Lane, ReadyQueue, Source

MESSAGE_EVENTS_MAX = BATCH_EVENTS_MAX
PARAMS_BYTES_MAX = 192 * 1024
"""Most bytes of parameters and specifications in one message to a worker; keeps it under the limit
of L6."""
STEAL_WORTH_US = 20_000
"""Expected work in a queue below which taking it back is not worth two round trips."""
KINDS_MAX = 10_000
TAKE_MAX = 100
"""Tasks taken from a group at once: bounds how far a message may grow past its bytes."""
encode_spec = msgspec.json.Encoder().encode


class Letter:
    """The assignments of one wave for one worker, all for one class of hardware."""

    __slots__ = ("bytes", "events", "hardware")

    def __init__(self, hardware: str) -> None:
        self.hardware = hardware
        self.events: list[Event] = []
        self.bytes = 0

    @property
    def full(self) -> bool:
        return len(self.events) >= MESSAGE_EVENTS_MAX or self.bytes >= PARAMS_BYTES_MAX


class Assigner:
    """Desks and waiting tasks of one term."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.queue = ReadyQueue()
        self.desks: dict[str, Desk] = {}
        self._kinds: dict[str, int] = {}
        """Mean duration (us) by what is run: a first guess for groups without a finish of their
        own."""
        self._count = 0
        self.unread: set[str] = set()
        """Tokens given out and not read back: a second copy of an assignment says nothing (L4)."""
        self.again: set[tuple[str, str]] = set()
        """(run, task) of tasks given out again and not read back."""

    # -- workers -----------------------------------------------------------------------------------
    def seat(self, worker: Worker) -> None:
        """The worker's current incarnation may get work; what it already holds is reserved."""
        desk = self.desks[worker.name] = Desk(worker)
        for attempt in self.pool.open.values():
            mine = attempt.worker == worker.name and attempt.incarnation == worker.incarnation
            if mine and not attempt.orphaned:
                desk.reserve_attempt(attempt)

    def unseat(self, worker: str) -> None:
        """The incarnation is over."""
        self.desks.pop(worker, None)

    def any_could_run(self, lane: Lane) -> bool:
        """Whether some living worker could ever run the lane's tasks, drained ones included."""
        return any(desk.could_run(lane.signature, lane.requirement) for desk in self.desks.values())

    def forget_run(self, run: str) -> None:
        """The run is settled."""
        self.queue.forget_run(run)
        for desk in self.desks.values():
            desk.known = {known for known in desk.known if known[0] != run}

    # -- durations ---------------------------------------------------------------------------------
    def learn(self, spec: TaskSpec, duration_us: int) -> None:
        """Remember how long such a task took."""
        kind = _kind(spec)
        mean = self._kinds.get(kind)
        if mean is None:
            if len(self._kinds) >= KINDS_MAX:
                self._kinds.clear()
            self._kinds[kind] = duration_us
        else:
            self._kinds[kind] = mean + (duration_us - mean) // 8

    def _mean_us(self, group: Group) -> int | None:
        if group.finishes:
            return group.mean_us
        spec = group.spec
        return self._kinds.get(_kind(spec))

    # -- giving ------------------------------------------------------------------------------------
    def assign(self, busy: Iterable[str]) -> tuple[dict[str, Letter], list[Lane]]:
        """One letter a worker (none for the `busy`), and the lanes that no free worker could
        take."""
        letters: dict[str, Letter] = {}
        homeless: list[Lane] = []
        busy = set(busy)
        desks = [
            desk for desk in self.desks.values() if desk.open_for_work and desk.name not in busy
        ]
        for lane in self.queue.ordered():
            able = [desk for desk in desks if desk.could_run(lane.signature, lane.requirement)]
            if able:
                lane.unfit_since = None
                self._fill(lane, able, letters)
            else:
                homeless.append(lane)
        return letters, homeless

    def _fill(self, lane: Lane, desks: list[Desk], letters: dict[str, Letter]) -> None:
        """Free slots first, the emptiest worker first; then work ahead, in equal shares."""
        requirement = lane.requirement
        hardware = requirement.hardware
        desks = [d for d in desks if d.name not in letters or letters[d.name].hardware == hardware]
        desks.sort(key=lambda d: d.used_cpu / (d.join.cpu_milli or 1))
        progress = True
        while progress and lane.head() is not None:
            progress = False
            for desk in desks:
                if desk.free_slots(requirement) and self._give(lane, desk, 1, letters):
                    progress = True
        head = lane.head()
        if head is None or requirement.device_count:
            return
        mean_us = self._mean_us(head.group)
        for desk in desks:
            room = desk.room_ahead(requirement, mean_us)
            if room > 0:
                share = -(-lane.waiting(room * len(desks)) // len(desks))
                self._give(lane, desk, min(room, share), letters)

    def _give(self, lane: Lane, desk: Desk, number: int, letters: dict[str, Letter]) -> int:
        """Assign up to `number` waiting tasks of the lane to the worker; how many it were."""
        letter = letters.get(desk.name) or Letter(lane.requirement.hardware)
        given = 0
        while given < number and not letter.full:
            source = lane.head()
            if source is None:
                break
            given += self._give_from(source, lane, desk, letter, number - given)
        if given:
            letters[desk.name] = letter
        return given

    def _give_from(
        self, source: Source, lane: Lane, desk: Desk, letter: Letter, number: int
    ) -> int:
        """Assign up to `number` tasks of one group; the hot loop of a leader."""
        requirement = lane.requirement
        devices: list[str] = []
        if requirement.device_count:
            number = 1
            devices = desk.pick_devices(requirement)[: requirement.device_count]
        room = MESSAGE_EVENTS_MAX - len(letter.events)
        indexes, fresh = source.take(min(number, room, TAKE_MAX))
        if not indexes:
            return 0
        run, submitted, term = source.run, source.group.submitted, self.pool.term
        items, axes, group = submitted.items, submitted.axes, submitted.group
        spec = self._spec_for(desk, run, submitted, letter)
        seat = seat_for(run.id, requirement, devices)
        count, nonce, events = self._count, self.pool.nonce, letter.events
        unread = self.unread
        params = ABSENT
        given = 0
        for index in indexes:
            name = f"{group}-{index}"
            attempt = 1 if fresh else self._next_attempt(run, name)
            if not attempt:
                continue
            count += 1
            given += 1
            token = f"{name}.{attempt}.{term}.{nonce}{count:x}"
            if items is not None or axes is not None:
                params = task_params(items, axes, index)
                letter.bytes += len(memoryview(params))
            event = e.TaskAssigned(
                term=term,
                run=run.id,
                token=token,
                incarnation=desk.incarnation,
                devices=devices,
                spec=spec,
                params=params,
            )
            spec = None
            desk.reserve(token, seat)
            unread.add(token)
            events.append(event)
        self._count = count
        if spec is not None:  # nothing was given, so it does not travel
            desk.known.discard((run.id, group))
        return given

    def _next_attempt(self, run: Run, name: str) -> int:
        """The number of the next attempt of a task that came back, which now is given out; 0 when
        it does not wait: it came back twice, from an attempt kept open and from its replacement.
        """
        task = run.tasks.get(name)
        if (run.id, name) in self.again or (task is not None and not task.waiting):
            return 0
        self.again.add((run.id, name))
        return task.tries + 1 if task is not None else 1

    def _spec_for(
        self, desk: Desk, run: Run, submitted: e.TasksSubmitted, letter: Letter
    ) -> TaskSpec | None:
        """The specification, when this incarnation was not sent it yet."""
        key = (run.id, submitted.group)
        if key in desk.known:
            return None
        desk.known.add(key)
        letter.bytes += len(encode_spec(submitted.spec))
        return submitted.spec

    def undo(self, worker: str, event: e.TaskAssigned) -> None:
        """Our assignment did not count (the worker rejoined meanwhile): the task waits again.

        A second copy of one that was read back before changes nothing, whatever became of it.
        """
        if event.token not in self.unread:
            return
        self.read(event)
        desk = self.desks.get(worker)
        if desk is not None:
            desk.release(event.token)
        run = self.pool.runs.get(event.run)
        found = run.find(event.token[: event.token.index(".")]) if run is not None else None
        if run is not None and found is not None:
            self.queue.put_back(run, found[0], found[1])

    def read(self, event: e.TaskAssigned) -> None:
        """Our assignment was read back, whether it counts or not."""
        self.unread.discard(event.token)
        if self.again:
            self.again.discard((event.run, event.token.partition(".")[0]))

    def in_flight(self, run: str, task: str) -> bool:
        """Whether an assignment of the task was sent and is not over."""
        prefix = task + "."
        return any(
            seat.run == run and token.startswith(prefix)
            for desk in self.desks.values()
            for token, seat in desk.seats.items()
        )

    # -- taking back -------------------------------------------------------------------------------
    def spare(self) -> list[Attempt]:
        """Attempts to ask back, because other workers have nothing to do and would fit (A5: a
        request only)."""
        idle = [desk for desk in self.desks.values() if desk.open_for_work and not desk.seats]
        if not idle:
            return []
        asked: list[Attempt] = []
        for victim in self.desks.values():
            if victim.used_cpu <= victim.join.cpu_milli or victim.stolen:
                continue
            queued = self._queued(victim)
            for attempt in queued[len(queued) // 2 :]:
                task = attempt.task
                lane = self.queue.lane_of(task.run, task.group)
                if lane is not None and any(
                    d.could_run(lane.signature, lane.requirement) for d in idle
                ):
                    victim.stolen.add(attempt.token)
                    asked.append(attempt)
        return asked

    def _queued(self, desk: Desk) -> list[Attempt]:
        """What the worker has queued but cannot have started, oldest first, when taking back would
        pay."""
        queued: list[Attempt] = []
        used, expected_us = 0, 0
        for token, seat in desk.seats.items():
            used += seat.cpu_milli
            attempt = self.pool.open.get(token)
            if used <= desk.join.cpu_milli or attempt is None or attempt.started or attempt.revoked:
                continue
            queued.append(attempt)
            mean = self._mean_us(attempt.task.group)
            expected_us += STEAL_WORTH_US if mean is None else mean
        return queued if expected_us >= STEAL_WORTH_US else []


def _kind(spec: TaskSpec) -> str:
    """What tasks that last about as long have in common."""
    if spec.runner == "pytest":
        return f"pytest {spec.history or spec.directory or spec.bundle}"
    return spec.target or spec.command[0]
