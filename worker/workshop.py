"""Where attempts in processes of their own are made. Rule: it holds what they share; each of them
is an `Isolated`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ..core.model import Device
from ..core.ports import BlobStore, EventLog
from ..core.subjects import Subjects
from .attempt import Attempt
from .bundles import BundleCache
from .isolated import Isolated
from .live import LiveOutput
from .machine import Machine
from .options import WorkerOptions
from .processes import Processes
from .pytest_work import PytestAttempt
from .scratch import ScratchArea


class Workshop:
    """Runs isolated attempts. `told` is called whenever a machine has new instructions."""

    def __init__(
        self,
        options: WorkerOptions,
        subjects: Subjects,
        processes: Processes,
        blobs: BlobStore,
        output: EventLog,
        bundles: BundleCache,
        devices: Mapping[str, Device],
        told: Callable[[], None],
    ) -> None:
        self.options = options
        self.subjects = subjects
        self.processes = processes
        self.blobs = blobs
        self.output = LiveOutput(output)
        self.bundles = bundles
        self.devices = devices
        self.told = told
        self.stopping = False
        self.area = ScratchArea(options.data_dir / "attempts", self._in_thread)
        self._attempts: dict[str, Isolated] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keys = 0

    async def close(self) -> None:
        """Nothing of ours is left in the file system. Attempts must have ended before."""
        self.stopping = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.to_thread(self.area.close)

    def start(self, machine: Machine, attempt: Attempt) -> None:
        """The attempt is on its way; its end is told to `machine` exactly once."""
        key = self.next_key()
        kind = PytestAttempt if attempt.spec.runner == "pytest" else Isolated
        isolated = kind(self, machine, attempt, key)
        self._attempts[attempt.token] = isolated
        isolated.begin()

    def kill(self, attempt: Attempt, *, soft: bool = True) -> None:
        """The attempt ends soon. Unknown or ended: no effect."""
        isolated = self._attempts.get(attempt.token)
        if isolated is not None:
            isolated.kill(soft=soft)

    def next_key(self) -> int:
        """A number no process had before."""
        self._keys += 1
        return self._keys

    def take_back(self, attempt: Attempt) -> None:
        """The attempt is given back if its process has not begun."""
        isolated = self._attempts.get(attempt.token)
        if isolated is not None:
            self.processes.drop(isolated.key)

    async def kill_all(self) -> None:
        """No process of any attempt lives."""
        for isolated in list(self._attempts.values()):
            isolated.kill(soft=False)
        await self.processes.gone()

    def gone(self, attempt: Attempt) -> None:
        """Nothing of the attempt is here any more."""
        self._attempts.pop(attempt.token, None)

    def _in_thread(self, work: Callable[[], None], name: str) -> None:
        self.spawn(asyncio.to_thread(work), name)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task that `close` waits for."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
