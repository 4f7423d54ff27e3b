"""What the log says of one run, as facts for the planner and for pytest.

Rule: a case counts once, by the attempt that told it first, unless a later one says worse.

No IO: events in; what was seen and the shards to submit come out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ...core import events as e
from ...core.ids import split_token
from ...core.model import Cause, Output, Verdict
from ...core.shards import Planner, Shard
from .seen import CaseSeen, Detail, FileLost, FileSeen, Seen, Stopped

HOPELESS = frozenset({Cause.NO_CAPACITY, Cause.CONFIG, Cause.SCHEDULER_BUG, Cause.QUEUE_LIMIT})
"""Causes that would end every other shard of the run in the same way."""
GOOD = ("passed", "skipped")
_details = msgspec.json.Decoder(Detail)
_values = msgspec.json.Decoder(dict[str, Any])


class Elsewhere(msgspec.Struct, frozen=True):
    """Cases of a file whose markers ask for other workers than their shard had."""

    path: str
    hardware: str
    memory_bytes: int
    ids: list[str]

    @property
    def words(self) -> str:
        """What they ask for."""
        return self.hardware + (f", {self.memory_bytes:,} bytes" if self.memory_bytes else "")


def _task(token: str) -> str:
    named = split_token(token)
    return named[0] if named else ""


class Follower:
    """Between the view of the run and whoever shows it; `tell` gets every fact, in order."""

    def __init__(
        self, planner: Planner, files: Sequence[str], tell: Callable[[Seen], None]
    ) -> None:
        self.planner = planner
        self.fresh: list[Shard] = []
        """Shards to be submitted."""
        self.hosts: set[tuple[str, str]] = set()
        """(process, worker) with fixtures still set up; every worker calls its own alike."""
        self.missing: dict[str, None] = {}
        self.workers: dict[str, int] = {}
        """Worker -> cases it ran."""
        self.settled = 0
        """Shards that are over."""
        self.requeued: list[tuple[str, str]] = []
        """(task, cause) of every attempt that was given up and repeated."""
        self.stopped: Stopped | None = None
        """How a worker's pytest was ended as a whole, the first time."""
        self.outputs: list[tuple[str, Output]] = []
        """(task, where its output is) of attempts that ended, until somebody takes them."""
        self.hopeless = ""
        """Why no shard can be run at all, once one was refused for that."""
        self._tell = tell
        self._open: dict[str, tuple[int, tuple[str, ...]] | None] = dict.fromkeys(files)
        """Files that are not complete: cases left and all ids, once it was collected."""
        self._ends: dict[str, e.AttemptFinished] = {}
        self._left_out = False
        self.elsewhere: list[Elsewhere] = []
        """Cases that ask for other workers than the shards of this run, to be submitted."""
        self._pinned: dict[str, Elsewhere] = {}
        """Tasks made of those."""
        self._parts: dict[tuple[str, str], list[str]] = {}
        """Ids of a file that came so far, by (token, file): many of them take several events."""
        self._worker_of: dict[str, str] = {}
        self._verdicts: dict[str, str] = {}
        self._shards_of: dict[str, set[str]] = {}
        self._messages: dict[str, str] = {}
        self._bound: set[str] = set()
        self._early: dict[str, dict[str, Any] | None] = {}

    def bind(self, shard: Shard | None, task: str) -> None:
        """The shard (None: none of the planner's) is this task, whose end may be known already."""
        self._bound.add(task)
        if shard is not None:
            self.planner.bind(shard, task)
        if task in self._early:
            self._more(task, self._early.pop(task))

    def bind_elsewhere(self, asked: Elsewhere, task: str) -> None:
        """The task runs cases that asked for other workers."""
        self._pinned[task] = asked
        self.bind(None, task)

    def worker_of(self, task: str) -> str:
        """The worker that has the task, or had it last; "" while nobody said so."""
        return self._worker_of.get(task, "")

    def on_attempt(self, worker: str, event: e.AttemptEvent) -> None:
        """Something an open attempt said."""
        task = _task(event.token)
        self._worker_of[task] = worker
        if isinstance(event, e.CasesReported):
            for case in event.cases:
                self._case(worker, task, case)
        elif isinstance(event, e.CasesCollected):
            self._collected(worker, task, event)
        elif isinstance(event, e.AttemptFinished):
            self._ends[event.token] = event

    def on_ruling(self, event: e.Event) -> None:
        """A ruling that counts."""
        if isinstance(event, e.TaskSettled):
            self._settled(event.task, event.verdict, event.cause, event.token)
        elif isinstance(event, e.RangeSettled):
            for index in range(event.start, event.stop):
                self._lost(f"{event.group}-{index}", event.cause, event.message)
        elif isinstance(event, e.TaskRequeued):
            self.requeued.append((_task(event.token), event.cause.value))

    @property
    def cut_short(self) -> bool:
        """A worker stopped on purpose: what it left out is no loss."""
        return self._left_out or self.stopped is not None

    def lost_cases(self) -> list[FileLost]:
        """What never gave a result, with the last reason known; call when nothing more comes.

        Counted anew from what was collected: whatever the reason, no case is missed in silence.
        """
        reason = self.hopeless or next(reversed(self._messages.values()), "no worker told its end")
        lost = dict(self.planner.lost)
        for file, known in self._open.items():
            if self.hopeless or (file not in lost and self.planner.wants_all(file)):
                ids = known[1] if known is not None else ()
                lost[file] = [each for each in ids if each not in self._verdicts]
        return [FileLost(file, tuple(ids), reason) for file, ids in lost.items()]

    # -- cases ---------------------------------------------------------------------------------
    def _case(self, worker: str, task: str, case: Any) -> None:
        self.workers[worker] = self.workers.get(worker, 0) + 1
        verdict = case.verdict.value
        first = self.planner.on_case(task, case.id, case.duration_us)
        if not first and (verdict in GOOD or self._verdicts.get(case.id) not in GOOD):
            return
        self._verdicts[case.id] = verdict
        file = case.id.partition("::")[0]
        if first:
            self._count(file, case.id)
        shards = self._shards_of.setdefault(file, set())
        shards.add(task)
        detail = _details.decode(case.detail) if case.detail else None
        self._tell(
            CaseSeen(
                case.id,
                verdict,
                case.duration_us or 0,
                case.message,
                case.tries,
                detail,
                worker,
                len(shards) > 1,
            )
        )

    def _count(self, file: str, case_id: str) -> None:
        known = self._open.get(file)
        if case_id == file:
            self._open.pop(file, None)
        elif known is not None:
            self._open[file] = (known[0] - 1, known[1])
            if known[0] <= 1:
                del self._open[file]

    def _collected(self, worker: str, task: str, event: e.CasesCollected) -> None:
        ids = self._parts.setdefault((event.token, event.file), [])
        ids += event.ids
        if 0 < len(ids) < event.selected:
            return  # the others come in the events that follow
        del self._parts[event.token, event.file]
        if event.file in self._open and self._open[event.file] is None:
            self._open[event.file] = (event.selected, tuple(ids))
            if not event.selected:
                del self._open[event.file]
        self.planner.on_collected(task, event.file, ids, event.selected, scoped=event.scoped)
        self._tell(
            FileSeen(event.file, event.selected, event.deselected, event.digest, tuple(ids), worker)
        )

    # -- ends ----------------------------------------------------------------------------------
    def _settled(self, task: str, verdict: Verdict, cause: Cause, token: str | None) -> None:
        end = self._ends.pop(token, None) if token is not None else None
        if end is not None and end.output is not None and end.output.bytes:
            self.outputs.append((task, end.output))
        if end is None or not end.value:
            message = end.message if end is not None else ""
            self._lost(task, cause, message or f"its shard ended as {verdict.value}")
            return
        value = _values.decode(end.value)
        self._left_out = self._left_out or bool(value.get("stopped"))
        if "ended" in value:
            self._stop(value["ended"])
        self.missing.update(dict.fromkeys(map(str, value.get("missing") or ())))
        self.elsewhere += [msgspec.convert(each, Elsewhere) for each in value.get("elsewhere", ())]
        host = str(value.get("host") or "")
        left = (host, self.worker_of(task))
        if host and value.get("open"):
            self.hosts.add(left)
        else:
            self.hosts.discard(left)
        self._more(task, value)

    def _stop(self, told: dict[str, Any]) -> None:
        """A test, a plugin or the configuration ended pytest itself on a worker."""
        message, code = str(told.get("message") or ""), int(told.get("exit_code") or 0)
        stopped = Stopped(str(told.get("status") or "raised"), message, code)
        self.stopped = self.stopped or stopped
        self.hopeless = self.hopeless or message or stopped.status

    def _lost(self, task: str, cause: Cause, message: str) -> None:
        self._messages[task] = f"{message} ({cause.value})" if message else cause.value
        asked = self._pinned.get(task)
        if asked is not None:
            self._nowhere(asked, self._messages[task])
        elif cause in HOPELESS or cause is Cause.CANCELLED:
            self.hopeless = self.hopeless or self._messages[task]
        self._more(task, None)

    def _nowhere(self, asked: Elsewhere, message: str) -> None:
        """No worker could run these cases: errors that say what they asked for."""
        left = [each for each in asked.ids if each not in self._verdicts]
        for each in left:
            self._verdicts[each] = "error"
            self._count(asked.path, each)
        if left:
            self._tell(FileLost(asked.path, tuple(left), f"asks for {asked.words}: {message}"))

    def _more(self, task: str, value: dict[str, Any] | None) -> None:
        """The task is over; told before its submission was acknowledged, it waits for that."""
        if task not in self._bound:
            self._early[task] = value
            return
        self.settled += 1
        shards: Sequence[Shard] = self.planner.on_settled(task, value)
        if not self.hopeless:
            self.fresh += shards
