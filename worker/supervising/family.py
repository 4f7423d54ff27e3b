"""Which process belongs to which attempt. Rule: who has left its group and session is found by
descent, by having been seen before, or by its environment; who hides even so is told by its
age.
"""

from __future__ import annotations

import os
import signal
import time

from .kin import may_keep
from .running import Running
from .spawn import MARKER
from .table import Process, below, kill_quietly, process_table, read_small

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from .warm import Warm


class Family:
    """The processes below this one. All it is given are the supervisor's own tables, live."""

    def __init__(
        self, attempts: dict[int, Running], firsts: dict[int, Running], warm: Warm
    ) -> None:
        self.me = os.getpid()
        self.scan_ns = 0
        """What the last look at all processes cost."""
        self._attempts = attempts
        self._warm = warm
        self._firsts = firsts
        """By pid of the first process."""
        self._strangers: dict[tuple[int, int], int | None] = {}
        """Orphans by (pid, start time): the attempt they name, None when they do not say."""

    def table(self) -> dict[int, Process]:
        """Every process of the machine."""
        before = time.monotonic_ns()
        table = process_table()
        self.scan_ns = time.monotonic_ns() - before
        return table

    def members(self, attempt: Running, table: dict[int, Process]) -> set[int]:
        """Living processes of the attempt: its session and group, what they started, and orphans
        of theirs. They are `known` from now on.
        """
        roots = set()
        for pid, process in table.items():
            if (
                process.session == attempt.pid
                or process.group == attempt.pid
                or attempt.known.get(pid) == process.started
                or (process.parent == self.me and self.owner(process) == attempt.key)
            ):
                roots.add(pid)
        found = {pid for pid in below(table, roots) if pid in table and not table[pid].zombie}
        attempt.known = {pid: table[pid].started for pid in found}
        return found

    def owner(self, process: Process) -> int | None:
        """The attempt a child of ours belongs to, as its environment says; None when it does not
        say.
        """
        if process.pid in self._firsts:
            return self._firsts[process.pid].key
        name = (process.pid, process.started)
        if name not in self._strangers:
            mark = b"\0" + MARKER.encode() + b"="
            _, found, rest = (b"\0" + read_small(f"/proc/{process.pid}/environ")).partition(mark)
            text = rest.partition(b"\0")[0].rpartition(b".")[2]
            self._strangers[name] = int(text) if found and text.isdigit() else None
        return self._strangers[name]

    def orphans(self, table: dict[int, Process]) -> list[Process]:
        """What attempts have left to us; nobody else is remembered."""
        orphans = [
            p
            for p in table.values()
            if p.parent == self.me and p.pid not in self._firsts and p.pid not in self._warm.by_pid
        ]
        self._strangers = {(p.pid, p.started): self.owner(p) for p in orphans}
        return orphans

    def may_live(self, orphan: Process) -> bool:
        """Whether the orphan may belong to an attempt that runs. One whose environment does not
        say is left alone as long as an attempt runs that is older than it.
        """
        owner = self.owner(orphan)
        if may_keep(self._warm.by_fd.values(), owner, orphan.started):
            return True
        if owner is not None:
            return owner in self._attempts
        return any(a.began_ticks <= orphan.started for a in self._attempts.values())

    def kill_session(self, leader: int) -> None:
        """What an idle host of this pid has left behind is killed; its orphans are swept up."""
        kill_quietly(-leader, signal.SIGKILL)
        table = self.table()
        for pid in below(table, {p.pid for p in table.values() if p.session == leader}):
            kill_quietly(pid, signal.SIGKILL)
