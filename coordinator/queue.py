"""Tasks that wait, by requirement signature. Rule: cost follows signatures and free slots, never
the number of tasks.

Derived from the fold: rebuilt when this coordinator is elected, then kept by what the leader takes
out and what the log puts back. Order inside a signature: priority, then the run's place in the log,
then its groups and indexes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import msgspec

from ..core.model import Requirement
from ..core.state import Group, Run


def signature(requirement: Requirement) -> bytes:
    """Equal for equal requirements, whatever the order of their labels."""
    return msgspec.json.encode(requirement, order="deterministic")


class Source:
    """The waiting tasks of one group: a range not yet handed out, and single tasks that came
    back."""

    __slots__ = ("back", "cursor", "gone", "group", "key", "queued", "run", "skip")

    def __init__(self, run: Run, group: Group, active: Iterable[int] = ()) -> None:
        self.run = run
        self.group = group
        self.cursor = 0
        self.skip = set(active)
        """Indexes ahead of the cursor that the range passes over: this leader's term began with
        them assigned, finished, or come back (then they are in `back`, and not handed out twice).
        """
        self.gone: set[int] = set()
        """Indexes that do not wait any more though no ruling on them was read back."""
        self.back: list[int] = []
        self.key = (-run.priority, run.closed_at or run.opened_at, group.submitted.part)
        self.queued = False

    def __lt__(self, other: Source) -> bool:
        return self.key < other.key

    @property
    def remaining(self) -> int:
        """Upper bound of the tasks that wait here."""
        return len(self.back) + self.group.size - self.cursor

    def take(self, number: int) -> tuple[Sequence[int], bool]:
        """Up to `number` waiting indexes, and whether they are fresh (never handed out by anyone).

        Empty only when nothing waits here. What came back goes first; a fresh range costs no look
        at each of its tasks.
        """
        if self.back:
            found: list[int] = []
            while self.back and len(found) < number:
                index = heapq.heappop(self.back)
                if not self.group.verdicts[index] and index not in self.gone:
                    found.append(index)
            if found:
                return found, False
        verdicts, start = self.group.verdicts, self.cursor
        stop = min(start + number, self.group.size)
        if not (self.skip or self.gone) and verdicts.count(0, start, stop) == stop - start:
            self.cursor = stop
            return range(start, stop), True
        return self._pick(number), True

    def _pick(self, number: int) -> list[int]:
        """Like a fresh range, but some of its tasks do not wait."""
        verdicts, size, cursor = self.group.verdicts, self.group.size, self.cursor
        found: list[int] = []
        while cursor < size and len(found) < number:
            if cursor in self.skip:
                self.skip.remove(cursor)
            elif not verdicts[cursor] and cursor not in self.gone:
                found.append(cursor)
            cursor += 1
        self.cursor = cursor
        return found


class Lane:
    """All waiting tasks with one requirement."""

    __slots__ = ("heap", "requirement", "signature", "sources", "unfit_since")

    def __init__(self, requirement: Requirement, key: bytes) -> None:
        self.requirement = requirement
        self.signature = key
        self.heap: list[Source] = []
        self.sources = 0
        """Groups of unsettled runs that ask for this, with or without waiting tasks."""
        self.unfit_since: float | None = None
        """Since when no living worker could ever run these; None while one could."""

    def head(self) -> Source | None:
        """The source whose task is next."""
        while self.heap:
            source = self.heap[0]
            if source.remaining:
                return source
            heapq.heappop(self.heap)
            source.queued = False
        return None

    def waiting(self, limit: int) -> int:
        """How many tasks wait, counted up to about `limit`."""
        total = 0
        for source in self.heap:
            total += source.remaining
            if total >= limit:
                break
        return total

    def drop(self, source: Source) -> None:
        """Nothing of this source waits any more."""
        source.cursor, source.back = source.group.size, []


class ReadyQueue:
    """Every waiting task of the pool."""

    def __init__(self) -> None:
        self.lanes: dict[bytes, Lane] = {}
        self._sources: dict[tuple[str, str], tuple[Lane, Source]] = {}
        """By (run, group)."""

    def add_group(self, run: Run, group: Group, active: Iterable[int] = ()) -> None:
        """Every unsettled task of the group waits, but for the `active` indexes."""
        key = signature(group.spec.require)
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lanes[key] = Lane(group.spec.require, key)
        source = Source(run, group, active)
        lane.sources += 1
        self._sources[run.id, group.name] = (lane, source)
        self._enqueue(lane, source)

    def put_back(self, run: Run, group: Group, index: int) -> None:
        """One task waits again; it keeps its place before later tasks of its group."""
        found = self._sources.get((run.id, group.name))
        if found is None:
            return
        lane, source = found
        source.gone.discard(index)
        heapq.heappush(source.back, index)
        self._enqueue(lane, source)

    def drop_group(self, run: Run, group: Group) -> None:
        """Nothing of the group waits any more (cancelled, or settled as a range)."""
        found = self._sources.get((run.id, group.name))
        if found is not None:
            found[0].drop(found[1])

    def skip(self, run: Run, group: Group, index: int) -> None:
        """One task of the group does not wait any more."""
        found = self._sources.get((run.id, group.name))
        if found is not None:
            found[1].gone.add(index)

    def lane_of(self, run: Run, group: Group) -> Lane | None:
        """The lane the group's tasks wait in, while its run is unsettled."""
        found = self._sources.get((run.id, group.name))
        return found[0] if found else None

    def forget_run(self, run: str) -> None:
        """The run is settled: free what the queue knows of it."""
        for key in [key for key in self._sources if key[0] == run]:
            lane, source = self._sources.pop(key)
            lane.drop(source)
            lane.sources -= 1
            if not lane.sources:
                self.lanes.pop(lane.signature, None)

    def ordered(self) -> list[Lane]:
        """Lanes with waiting tasks, the most urgent head first."""
        heads = [
            (head.key, lane) for lane in self.lanes.values() if (head := lane.head()) is not None
        ]
        heads.sort(key=lambda pair: pair[0])
        return [lane for _, lane in heads]

    def _enqueue(self, lane: Lane, source: Source) -> None:
        if not source.queued:
            source.queued = True
            heapq.heappush(lane.heap, source)
