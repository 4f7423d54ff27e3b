"""A run whose tasks are decided while it runs.

Rule: what `add` returned is stored durably; the run ends only after `seal`, or by a cancellation.

For publishers that learn from what came of earlier tasks what to ask for next. One writer: the one
who began it. A publisher that dies leaves an open run, which the leader settles as incomplete after
the pool's `incomplete_ms` without a new part (protocol S2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from .errors import InvalidSubmission
from .events import Event, RunSealed, RunSubmitted
from .ids import check_name, run_id, task_id
from .model import TaskSpec, spec_problem
from .subjects import Subjects
from .submit import GroupPlan, json_items, pack, parts_of, tasks_event


class Publisher(Protocol):
    """What stores events: `core.client.Client`."""

    subjects: Subjects

    async def put_event(self, subject: str, *events: Event) -> int: ...


class OpenRun:
    """One streamed run of one publisher. Not for use by several tasks at once."""

    def __init__(
        self,
        client: Publisher,
        *,
        publisher: str,
        key: str,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        priority: int = 0,
        wait_for_capacity: bool = False,
    ) -> None:
        self.run = run_id(check_name(publisher, "publisher"), key)
        self.tasks = 0
        """Tasks added so far."""
        self.sealed = False
        self._client = client
        self._subject = client.subjects.run(publisher, self.run)
        self._head: RunSubmitted | None = RunSubmitted(
            key=key,
            name=name[:256],
            labels=dict(labels or {}),
            priority=priority,
            wait_for_capacity=wait_for_capacity,
            streamed=True,
        )
        self._parts = 0

    async def add(
        self,
        spec: TaskSpec,
        params: Sequence[Mapping[str, Any]],
        *,
        label: str = "",
        last: bool = False,
    ) -> list[str]:
        """One task for each of `params`, queued in this order; their ids. `last` seals the run.

        Normally one message. Raises `InvalidSubmission` before anything is sent, and what
        `Client.put_event` raises: then the run must be cancelled, since some of it may be stored.
        """
        problem = spec_problem(spec)
        if problem:
            raise InvalidSubmission(f"the specification makes no sense: {problem}")
        added = parts_of(self._plan(spec, params, label)) if params else []
        # A long list was cut into several groups: each has a number of its own here.
        groups = [
            GroupPlan(name=f"s{self._parts + i}", spec=spec, label=label, items=part.items)
            for i, part in enumerate(added)
        ]
        events: list[Event] = [tasks_event(self._parts + i, each) for i, each in enumerate(groups)]
        self._parts += len(groups)
        self.tasks += sum(group.size for group in groups)
        if last:
            events.append(self._seal())
        await self._send(events)
        return [task_id(group.name, i) for group in groups for i in range(group.size)]

    async def seal(self) -> None:
        """Nothing more comes: the run is settled once all its tasks are. Again: no effect."""
        if not self.sealed:
            await self._send([self._seal()])

    def _plan(self, spec: TaskSpec, params: Iterable[Mapping[str, Any]], label: str) -> GroupPlan:
        return GroupPlan(name="s0000000", spec=spec, label=label, items=json_items(params))

    def _seal(self) -> RunSealed:
        self.sealed = True
        return RunSealed(parts=self._parts, tasks=self.tasks)

    async def _send(self, events: list[Event]) -> None:
        if self._head is not None:
            events.insert(0, self._head)
            self._head = None
        for message in pack(events):
            await self._client.put_event(self._subject, *message)
