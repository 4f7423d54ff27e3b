"""One run as its messages tell it.

Rule: attempts are provisional; a task is over when a ruling of the current leader says so, by the
attempt that ruling names (protocol F11).

Pure: messages in, a view out. Submissions are judged by the fold's own steps. Compact: a task is
one byte; records exist for tasks that did not pass, and for what was asked to be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Raw

from . import events as e
from .attempts_seen import AttemptsSeen, Finished, Listener
from .codec import Undecodable, decode_batch
from .elections import Elections, is_forged
from .evolve import STEPS
from .labels import group_task_label
from .model import ABSENT, Verdict, task_params
from .ports import Message
from .state import VERDICT_CODE, VERDICTS, Group, Pool, Run
from .subjects import Subject, Subjects
from .task_view import Rejection, TaskView, settled_view

FAILURES_MAX = 1000
"""Failed tasks whose message and last lines are kept; of later ones verdict, cause and worker only.
"""
REJECTIONS_MAX = 100
QUIET = (Verdict.PASSED, Verdict.SKIPPED)
"""Verdicts that leave no record unless asked for."""
_CODES = {verdict.value: code for verdict, code in VERDICT_CODE.items()}
_PUBLISHER = (e.RunSubmitted, e.TasksSubmitted, e.RunSealed, e.CancelRequested)
Events = Sequence[e.Event | Undecodable]


class RunView:
    """The state of one run.

    Feed it the run's messages in log order; an older one changes nothing.
    """

    def __init__(
        self,
        run: str,
        pool: str = "main",
        *,
        elections: Elections | None = None,
        keep_values: bool = False,
        keep_cases: bool = False,
        keep_passed: bool = False,
        on_attempt: Listener | None = None,
        on_ruling: Callable[[e.Event], None] | None = None,
    ) -> None:
        """A view of nothing yet.

        `elections`: who leads where the feed begins (not known: the first election seen is
        believed). Kept on request: returned values; cases and measurements; a record of every task.
        `on_attempt` hears what open attempts say, provisional until a ruling; `on_ruling` each
        ruling that counts, after the view took it.
        """
        self.run = run
        self.sequence = 0
        """Log sequence of the last message fed."""
        self.forgotten = False
        """The run's key was released; nothing was submitted under it since."""
        self._pool_name = pool
        self._subjects = Subjects(pool)
        self._elections = elections or Elections()
        self._keep_values = keep_values
        self._keep_cases = keep_cases
        self._keep_all = keep_cases or keep_passed
        self._on_attempt = on_attempt
        self._on_ruling = on_ruling
        self._begin()

    def begin(self, elections: Elections) -> None:
        """From here on, `elections` say who leads; before the first message only."""
        self._elections = elections

    def _begin(self) -> None:
        self._pool = Pool(self._pool_name)
        self._pool.uuid = "followed"
        self._attempts = AttemptsSeen(
            self._is_open, keep_reports=self._keep_cases, listener=self._on_attempt
        )
        self.counts: dict[str, int] = {}
        """Settled tasks by verdict."""
        self.verdict = ""
        """The settled run's verdict."""
        self.rejected = ""
        """Why the whole submission was refused."""
        self.rejections: list[Rejection] = []
        self.ranges: list[e.RangeSettled] = []
        """Rulings that settled many tasks at once."""
        self.requeues = 0
        """Times a task was put back."""
        self.tasks: dict[str, TaskView] = {}
        """Records of settled tasks: all that neither passed nor were skipped, and those asked for.
        """
        self.values: dict[str, Raw] = {}
        """What settled tasks returned, as JSON, when it was asked for."""
        self.submitted_ns: int | None = None
        self.settled_ns: int | None = None
        """Server's clock at the first and the last message; for people."""
        self._failures = 0

    # -- what people ask -----------------------------------------------------------------------
    @property
    def submission(self) -> Run | None:
        """The run as submitted: groups, publisher, labels; None before its first message."""
        return self._pool.runs.get(self.run)

    @property
    def name(self) -> str:
        run = self.submission
        return run.submitted.name if run and run.submitted else ""

    @property
    def term(self) -> int | None:
        """The leader's term here; None when no election was seen."""
        return self._elections.term

    @property
    def publisher(self) -> str:
        run = self.submission
        return run.publisher if run else ""

    @property
    def size(self) -> int:
        """Tasks submitted so far."""
        run = self.submission
        return run.size if run else 0

    @property
    def settled(self) -> int:
        """Tasks that are over."""
        return sum(self.counts.values())

    @property
    def running(self) -> int:
        """Tasks with an attempt that said it started. Short ones may never be seen here."""
        return len(self._attempts.running)

    @property
    def queued(self) -> int:
        """Tasks neither settled nor seen running."""
        return max(0, self.size - self.settled - self.running)

    @property
    def done(self) -> bool:
        """Nothing more will happen: settled or rejected."""
        return bool(self.verdict or self.rejected)

    @property
    def cancelling(self) -> bool:
        """A cancellation of the whole run was asked for."""
        run = self.submission
        return run is not None and bool(run.cancel_at)

    @property
    def state(self) -> str:
        """unknown, open (parts are missing), queued, running, settled or rejected."""
        if self.done:
            return "rejected" if self.rejected else "settled"
        run = self.submission
        if run is None or not (run.closed or run.streams):
            return "open" if run else "unknown"
        active = self.counts or self._attempts.running or self._attempts.finished
        return "running" if active else "queued"

    def find(self, task: str) -> TaskView | None:
        """What is known of a task, running ones included; None when the run has no such task."""
        found = self._locate(task)
        if found is None:
            return None
        group, index = found
        view = self.tasks.get(task) or TaskView(id=task)
        view.value = self.values.get(task, ABSENT)
        view.label = view.label or group_task_label(group.submitted, index)
        if view.verdict is None and group.verdicts[index]:
            self._fill_settled(view, group, index)
        elif view.verdict is None:
            self._fill_open(view)
        return view

    def running_tasks(self) -> Iterator[TaskView]:
        """A record of each task that is seen running, the longest running first."""
        for task in list(self._attempts.running):
            view = self.find(task)
            if view is not None:
                yield view

    def failures(self) -> Iterator[TaskView]:
        """Records of tasks that neither passed nor were skipped, in the order of their rulings.

        Tasks settled by the range are in `ranges` only.
        """
        for task, view in self.tasks.items():
            if view.verdict not in QUIET:
                yield self.find(task) or view

    def params(self, task: str) -> Raw:
        """The parameters of a task as JSON; `ABSENT` when it has none or is not of this run."""
        found = self._locate(task)
        if found is None:
            return ABSENT
        submitted = found[0].submitted
        return task_params(submitted.items, submitted.axes, found[1])

    def verdicts(self) -> Iterator[tuple[e.TasksSubmitted, int, Verdict | None]]:
        """(group, index, verdict or None) of every task, in the order of submission."""
        run = self.submission
        for group in run.groups.values() if run else ():
            for index, code in enumerate(group.verdicts):
                yield group.submitted, index, VERDICTS[code - 1] if code else None

    # -- messages ------------------------------------------------------------------------------
    def feed(self, message: Message) -> bool:
        """Take the run's next message; True when the view may have changed.

        Messages of other runs and void events change nothing. Raises `FoldVersionError` when the
        pool is led by a newer fold than this program knows (protocol F4).
        """
        if message.sequence <= self.sequence:
            return False
        self.sequence = message.sequence
        subject = self._subjects.parse(message.subject)
        if subject is None or is_forged(message):
            return False
        if subject.kind == "leader":
            self._elections.take(decode_batch(message.data))
        elif subject.run == self.run and subject.kind == "attempt" and not self.done:
            self._attempts.feed(subject.owner, decode_batch(message.data), message.sequence)
            return True
        elif subject.run == self.run and subject.kind == "ruling":
            return self._rulings(decode_batch(message.data), message)
        elif subject.run == self.run and subject.kind == "run":
            return self._submit(subject, decode_batch(message.data), message)
        return False

    def _submit(self, subject: Subject, events: Events, message: Message) -> bool:
        changed = False
        before = self.submission
        for index, event in enumerate(events):
            if isinstance(event, _PUBLISHER):
                step = STEPS[type(event)]
                void = step(self._pool, subject, event, message.sequence, index)
                changed = changed or not void
        if before is not None and self.submission is not before:
            # A stranger had written under the run's id before its owner did (protocol S1).
            pool = self._pool
            self._begin()
            self._pool = pool
        if changed and self.submitted_ns is None:
            self.submitted_ns, self.forgotten = message.time_ns, False
        return changed

    def _rulings(self, events: Events, message: Message) -> bool:
        changed = False
        for event in events:
            term = getattr(event, "term", None)
            if term is None or not self._elections.allow(term):
                continue
            changed = True
            if type(event) is e.TaskSettled:
                self._settle(event)
            elif isinstance(event, e.RunForgotten):
                self._forget()
            elif not self.done:
                self._rule(event, message)
            if self._on_ruling is not None and not isinstance(event, Undecodable):
                self._on_ruling(event)
        return changed

    def _rule(self, event: object, message: Message) -> None:
        if isinstance(event, e.TaskRequeued):
            self.requeues += self._attempts.requeue(event) is not None
        elif isinstance(event, e.RangeSettled):
            self._settle_range(event)
        elif isinstance(event, e.RunSettled) and self._ends(event):
            self.verdict, self.counts = event.verdict, dict(event.counts)
            self._close(event.verdict, message)
        elif isinstance(event, e.SubmissionRejected):
            self._reject(event, message)

    def _ends(self, event: e.RunSettled) -> bool:
        """Whether the run can be over by this: a part may have landed before the ruling did."""
        run = self.submission
        if run is None:
            return True
        if event.verdict != "cancelled" and run.closed == (event.verdict == "incomplete"):
            return False
        return not (run.closed or run.streams) or sum(event.counts.values()) == run.size

    def _settle(self, event: e.TaskSettled) -> None:
        found = None if self.done else self._locate(event.task)
        if found is None:
            return
        group, index = found
        verdicts = group.verdicts
        old = verdicts[index]
        if old:
            if self._range_of(group.name, index) is None or event.task in self.tasks:
                return
            # A range leaves busy tasks out, and not every busy task is seen: its own ruling counts.
            self._count(VERDICTS[old - 1].value, -1)
        verdict = event.verdict.value
        verdicts[index] = _CODES[verdict]
        self._count(verdict, 1)
        finished = self._attempts.settle(event.task, event.token, event.at)
        if self._keep_values and finished is not None and finished.event.value is not ABSENT:
            # A view of the value would keep its whole message in memory.
            self.values[event.task] = finished.event.value.copy()
        if self._keep_all or event.verdict not in QUIET:
            self._record(event, finished)

    def _count(self, verdict: str, tasks: int) -> None:
        total = self.counts.get(verdict, 0) + tasks
        if total:
            self.counts[verdict] = total
        else:
            self.counts.pop(verdict, None)

    def _record(self, event: e.TaskSettled, finished: Finished | None) -> None:
        failed = event.verdict not in QUIET
        self._failures += failed
        texts = self._failures <= FAILURES_MAX if failed else self._keep_all
        reports = self._attempts.take_reports(event.token)
        self.tasks[event.task] = settled_view(event, finished, reports, texts=texts)

    def _settle_range(self, event: e.RangeSettled) -> None:
        run = self.submission
        group = run.groups.get(event.group) if run else None
        if group is None or not event.start < event.stop <= group.size:
            return
        before = group.verdicts[event.start : event.stop]
        after = before.replace(b"\0", bytes([VERDICT_CODE[event.verdict]]))
        for task in self._attempts.busy_tasks():
            found = self._locate(task)
            if found and found[0] is group and event.start <= found[1] < event.stop:
                after[found[1] - event.start] = before[found[1] - event.start]
        group.verdicts[event.start : event.stop] = after
        self._count(event.verdict.value, before.count(0) - after.count(0))
        self.ranges.append(event)

    def _reject(self, event: e.SubmissionRejected, message: Message) -> None:
        place = None
        if event.sequence is not None and event.index is not None:
            place = (event.sequence, event.index)
        if len(self.rejections) < REJECTIONS_MAX:
            self.rejections.append(Rejection(event.reason, place, event.fatal))
        run = self.submission
        if event.fatal and not (run and run.closed):
            self.rejected = event.reason or "refused"
            self._close("rejected", message)

    def _close(self, settled: str, message: Message) -> None:
        """Nothing counts any more; what was provisional is dropped."""
        run = self.submission
        if run is not None:
            run.settled = settled
        self.settled_ns = message.time_ns
        self._attempts.clear()

    def _forget(self) -> None:
        if self.done:
            self._begin()
            self.forgotten = True

    # -- places --------------------------------------------------------------------------------
    def _locate(self, task: str) -> tuple[Group, int] | None:
        run = self._pool.runs.get(self.run)
        return run.find(task) if run is not None else None

    def _is_open(self, task: str) -> bool:
        found = self._locate(task)
        return found is not None and not found[0].verdicts[found[1]]

    def _fill_settled(self, view: TaskView, group: Group, index: int) -> None:
        view.state, view.verdict = "settled", VERDICTS[group.verdicts[index] - 1]
        ruling = self._range_of(group.name, index)
        if ruling is not None:
            view.cause, view.message = ruling.cause, ruling.message

    def _fill_open(self, view: TaskView) -> None:
        seen = self._attempts
        running, requeued = seen.running.get(view.id), seen.requeued.get(view.id)
        if requeued is not None:
            view.cause, view.attempts = requeued.cause, requeued.number
        if running is not None:
            view.state, view.worker, view.attempts = "running", running.worker, running.number
        elif view.id in seen.busy_tasks():
            view.state = "finished"

    def _range_of(self, group: str, index: int) -> e.RangeSettled | None:
        for ruling in self.ranges:
            if ruling.group == group and ruling.start <= index < ruling.stop:
                return ruling
        return None
