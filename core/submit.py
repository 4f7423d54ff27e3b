"""What a publisher sends for a run.

Rule: one message in the normal case, and whatever the fold would refuse is refused here first,
before anything is sent.

Pure. A group whose items do not fit into one message becomes several: `name`, `name-p2`, `name-p3`
..., each with the items that follow the ones before, so the order of tasks is kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import ceil
from typing import Any

import msgspec
from msgspec import Raw

from .codec import MESSAGE_BYTES_MAX, Undecodable, encode_batch, encode_event
from .errors import InvalidSubmission
from .events import Event, PoolCreated, RunSealed, RunSubmitted, TasksSubmitted
from .fold import Fold
from .ids import check_name, run_id, task_id
from .model import Axis, TaskSpec, array_length, array_problem, spec_problem
from .ports import Message
from .quantities import show_bytes
from .subjects import Subjects

EVENT_BYTES_MAX = 900 * 1024
"""Most bytes of one message; servers take 1 MiB by default.

Most messages stay below `MESSAGE_BYTES_MAX`.
"""
HEAD_ROOM = 8 * 1024
"""Left free in a full message, so that the run's head and its seal need none of their own."""
GROUP_NAME_MAX = 52
_encoder = msgspec.json.Encoder()
_raws = msgspec.json.Decoder(list[Raw])


class _AnyObject(msgspec.Struct, gc=False):
    """Any JSON object: decoding checks that it is one and keeps nothing."""


_object = msgspec.json.Decoder(_AnyObject)


class GroupPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A group of tasks as it will be submitted: one task, or one of `items`, `axes`, `count`."""

    name: str
    """Token; task ids are "<name>-<index>"."""
    spec: TaskSpec
    label: str = ""
    """The name people gave it."""
    items: list[Raw] | None = None
    axes: list[Axis] | None = None
    count: int | None = None

    @property
    def size(self) -> int:
        """How many tasks it holds."""
        return array_length(self.items, self.axes, self.count)


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One run: who asks, under which key, and for what. The same key again is the same run."""

    publisher: str
    key: str
    groups: Sequence[GroupPlan]
    name: str = ""
    priority: int = 0
    labels: dict[str, str] = {}
    wait_for_capacity: bool = False
    retry_of: str | None = None

    @property
    def run(self) -> str:
        """The id of the run."""
        return run_id(self.publisher, self.key)

    @property
    def tasks(self) -> int:
        """How many tasks it holds."""
        return sum(group.size for group in self.groups)


def json_items(params: Iterable[Mapping[str, Any]]) -> list[Raw]:
    """The parameters of many tasks, encoded in one go: about 0.3 us an item.

    Raises `InvalidSubmission`.
    """
    try:
        return _raws.decode(_encoder.encode(list(params)))
    except (TypeError, ValueError, OverflowError) as problem:
        raise InvalidSubmission(
            f"parameters must be JSON objects: {problem}",
            remedy="Use texts, numbers, booleans, lists and tables only.",
        ) from None


def submission_messages(
    submission: Submission, pool: str = "main"
) -> tuple[str, list[tuple[str, list[Event]]]]:
    """The run's id and the messages that submit it, in order: (subject, events of one message).

    Deterministic: the same submission gives the same bytes, so it may be sent twice. Raises
    `InvalidSubmission` or `InvalidName` when the pool would refuse it, naming what.
    """
    _check_head(submission)
    parts = [part for group in _unique(submission.groups) for part in parts_of(group)]
    events: list[Event] = [_head(submission)]
    events += [tasks_event(number, part) for number, part in enumerate(_distinct(parts))]
    events.append(RunSealed(parts=len(parts), tasks=submission.tasks))
    subject = Subjects(pool).run(submission.publisher, submission.run)
    messages = [(subject, message) for message in pack(events)]
    try:
        _rehearse(pool, messages)
    except InvalidSubmission:
        _demand_objects(submission.groups)  # the likeliest reason, told better
        raise
    return submission.run, messages


def _head(submission: Submission) -> RunSubmitted:
    return RunSubmitted(
        key=submission.key,
        name=submission.name,
        priority=submission.priority,
        labels=submission.labels,
        wait_for_capacity=submission.wait_for_capacity,
        retry_of=submission.retry_of,
    )


def tasks_event(number: int, group: GroupPlan) -> TasksSubmitted:
    return TasksSubmitted(
        part=number,
        group=group.name,
        spec=group.spec,
        label=group.label,
        items=group.items,
        axes=group.axes,
        count=group.count,
    )


def _check_head(submission: Submission) -> None:
    check_name(submission.publisher, "publisher")
    if submission.retry_of is not None:
        check_name(submission.retry_of, "run to retry")
    for what, text, low in (("key", submission.key, 1), ("name", submission.name, 0)):
        if not low <= len(text) <= 256:
            raise InvalidSubmission(
                f"the {what} of a run has {low} to 256 characters, got {len(text)}: {text[:60]!r}"
            )
    if not -100 <= submission.priority <= 100:
        raise InvalidSubmission(f"priority is from -100 to 100, got {submission.priority}")


def _unique(groups: Sequence[GroupPlan]) -> Sequence[GroupPlan]:
    """The groups, each checked alone, no two of one name."""
    seen: set[str] = set()
    for group in groups:
        check_name(group.name, "group")
        problem = spec_problem(group.spec) or array_problem(group.items, group.axes, group.count)
        if len(group.name) > GROUP_NAME_MAX:
            problem = f"its name is longer than {GROUP_NAME_MAX} characters"
        elif group.name in seen:
            problem = "there is another group of this name"
        elif group.items is not None and not group.items:
            problem = "its list of items is empty"
        if problem:
            raise InvalidSubmission(f"group {group.name!r}: {problem}")
        seen.add(group.name)
    return groups


def _demand_objects(groups: Sequence[GroupPlan]) -> None:
    """Raises `InvalidSubmission` naming the first item that is not one JSON object."""
    for group in groups:
        for index, item in enumerate(group.items or ()):
            try:
                _object.decode(item)
            except msgspec.DecodeError as problem:
                raise InvalidSubmission(
                    f"group {group.name!r}: item {index} must be one JSON object: {problem}"
                ) from None


def parts_of(group: GroupPlan) -> list[GroupPlan]:
    """The group, or the groups that hold its items when one message cannot.

    Raises `InvalidSubmission` when even a single task fits into none.
    """
    encoded = len(encode_event(tasks_event(0, group)))
    if encoded <= EVENT_BYTES_MAX:
        return [group]
    if group.items is None:
        raise InvalidSubmission(
            f"group {group.name!r} needs a message of {show_bytes(encoded)}, "
            f"the limit is {show_bytes(EVENT_BYTES_MAX)}",
            remedy="Put long values and environments into a file of the bundle.",
        )
    return _split(group, group.items)


def _split(group: GroupPlan, items: list[Raw]) -> list[GroupPlan]:
    bare = len(encode_event(tasks_event(10**6, msgspec.structs.replace(group, items=[]))))
    room = EVENT_BYTES_MAX - bare - HEAD_ROOM
    lengths = [length + 1 for length in map(len, items)]
    longest = max(lengths)
    if longest > room:
        index = lengths.index(longest)
        raise InvalidSubmission(
            f"task {task_id(group.name, index)!r} alone needs {show_bytes(bare + lengths[index])}, "
            f"the limit of a message is {show_bytes(EVENT_BYTES_MAX)}",
            remedy="Put large parameters into a file of the bundle.",
        )
    ends = list(accumulate(lengths))
    pieces: list[GroupPlan] = []
    start = done = 0
    while start < len(items):
        rest = ends[-1] - done
        fair = done + ceil(rest / ceil(rest / room))
        stop = bisect_left(ends, fair, lo=start) + 1
        if ends[stop - 1] - done > room:
            stop -= 1
        name = group.name if not pieces else _piece_name(group.name, len(pieces) + 1)
        pieces.append(msgspec.structs.replace(group, name=name, items=items[start:stop]))
        start, done = stop, ends[stop - 1]
    return pieces


def _piece_name(name: str, number: int) -> str:
    tail = f"-p{number}"
    return name[: GROUP_NAME_MAX - len(tail)] + tail


def _distinct(parts: list[GroupPlan]) -> list[GroupPlan]:
    names = [part.name for part in parts]
    twice = next((name for name in names if names.count(name) > 1), None) if _clash(names) else None
    if twice is not None:
        raise InvalidSubmission(
            f"group {twice!r} would exist twice: a long list of items is split under such names",
            remedy="Rename one of the groups.",
        )
    return parts


def _clash(names: list[str]) -> bool:
    return len(set(names)) < len(names)


def pack(events: list[Event]) -> list[list[Event]]:
    """The events in messages, in order: few, and none above `MESSAGE_BYTES_MAX` unless a
    single event is.
    """
    messages: list[list[Event]] = [[]]
    filled = 2
    for event in events:
        size = len(encode_event(event)) + 1
        if size > EVENT_BYTES_MAX:
            raise InvalidSubmission(
                f"a {type(event).__name__} of {show_bytes(size)} fits into no message",
                remedy="Use fewer or shorter labels.",
            )
        limit = MESSAGE_BYTES_MAX if max(size, filled) <= MESSAGE_BYTES_MAX else EVENT_BYTES_MAX
        if messages[-1] and filled + size > limit:
            messages.append([])
            filled = 2
        messages[-1].append(event)
        filled += size
    return messages


def _rehearse(pool: str, messages: list[tuple[str, list[Event]]]) -> None:
    """Raises `InvalidSubmission` unless the fold itself closes the run these messages make."""
    fold = Fold(pool)
    creation = encode_batch([PoolCreated(uuid="rehearsal", name=pool)])
    fold.apply(Message(1, fold.subjects.pool_rulings, creation))
    for sequence, (subject, events) in enumerate(messages, start=2):
        judged = fold.apply(Message(sequence, subject, encode_batch(events)))
        for event, sent, void in zip(judged.events, events, judged.voids, strict=False):
            if void:
                what = getattr(sent, "group", "") or getattr(sent, "key", "")
                detail = event.detail if isinstance(event, Undecodable) else void
                raise InvalidSubmission(f"{type(sent).__name__} {what!r}: {detail}")
    run = next(iter(fold.pool.runs.values()), None)
    if run is None or not run.closed:
        reason = run.invalid if run else "nothing of it is valid"
        raise InvalidSubmission(f"the pool would refuse this run: {reason}")
