"""Warm parents: made when first wanted, ended when not used. Rule: one that fails costs no attempt;
whoever waits for it is told at once.
"""

from __future__ import annotations

import os

from .channel import NEVER
from .kin import Host, Kin, Parent
from .running import MS

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    import select
    from collections.abc import Callable, Sequence
    from typing import Any

    from .spawn import Spawner

HELLO_NS = 10_000 * MS
"""A process that has not said hello by then hangs."""
READY_NS = 60_000 * MS
"""A parent that has not prepared itself by then is given up."""
EXIT_NS = 2_000 * MS
IDLE_NS = 600_000 * MS
PARENTS_MAX = 4
SPARE_NS = 2_000 * MS
"""A process forked ahead that nobody wanted by then ends."""
FAILED_NS = 60_000 * MS
"""How long a parent that failed is not tried again."""


class NoParent(Exception):
    """There is no such parent, and why."""


class Parents:
    """The parents by id. `by_pid` is everybody's; `lost(kin, reason)` hears who will not come."""

    def __init__(
        self,
        poll: select.poll,
        spawner: Spawner,
        by_pid: dict[int, Kin],
        by_fd: dict[int, Kin],
        lost: Callable[[Kin, str], None],
    ) -> None:
        self.living: dict[str, Parent] = {}
        self.leaving: list[Parent] = []
        self._poll = poll
        self._spawner = spawner
        self._by_pid = by_pid
        self._by_fd = by_fd
        self._lost = lost
        self._failed: dict[str, tuple[str, int]] = {}
        self._not_warmed: set[str] = set()
        """Parents that died of warming up."""

    # -- making -----------------------------------------------------------------------------------
    def get(self, chain: list[dict[str, Any]], now: int) -> Parent:
        """The last of the chain, made with all before it that are missing. Raises NoParent."""
        link = chain[-1]
        found = self.living.get(link["id"])
        if found is None:
            self._check(link["id"], now)
            above = self.get(chain[:-1], now) if len(chain) > 1 else None
            self._make_room(chain, now)
            found = self._make(link, above, now)
        found.used = now
        return found

    def _check(self, name: str, now: int) -> None:
        reason, until = self._failed.get(name, ("", 0))
        if now < until:
            raise NoParent(reason)
        self._failed.pop(name, None)

    def _make(self, link: dict[str, Any], above: Parent | None, now: int) -> Parent:
        parent = Parent(self._poll, link, now)
        if above is not None:
            self.fork(above, [parent], [os.dup(parent.log)], now)
        else:
            try:
                parent.pid = self._spawner.spawn_warm(link, parent.wire, parent.log)
            except (OSError, ValueError) as error:
                parent.close()
                reason = f"the warm process did not start: {error}"
                self._fail(link["id"], reason, now)
                raise NoParent(reason) from error
            self._by_pid[parent.pid] = parent
            parent.due = now + HELLO_NS
        self._by_fd[parent.wire.fd] = parent
        self.living[parent.id] = parent
        if link["prepare"] is None:
            parent.ready = True
        else:
            parent.wire.tell("prepare", link["prepare"])
        return parent

    def fork(self, parent: Parent, kins: Sequence[Kin], outputs: Sequence[int], now: int) -> None:
        """All of `kins` will say hello, each writing to its output, which is no longer ours; or be
        lost.
        """
        parent.used = now
        parent.to_warm.clear()
        fds = []
        for kin, output in zip(kins, outputs, strict=True):
            parent.awaited.append(kin)
            kin.asked = parent
            kin.due = now + HELLO_NS if parent.ready else NEVER
            fds += [kin.wire.other, output]
            kin.wire.other = -1
        parent.wire.tell("fork", [kin.serial for kin in kins], fds=tuple(fds))

    def _make_room(self, chain: list[dict[str, Any]], now: int) -> None:
        wanted = {link["id"] for link in chain}
        idle = [p for p in self.living.values() if not p.awaited and p.id not in wanted]
        if len(self.living) >= PARENTS_MAX and idle:
            self.end(min(idle, key=lambda p: p.used), now)

    # -- hearing ----------------------------------------------------------------------------------
    def heard(self, parent: Parent, frame: tuple[Any, ...], now: int) -> None:
        """What a parent has said, hello excepted."""
        kind = frame[0]
        if kind == "ready":
            problem, kind_of = frame[1]["problem"], parent.link["prepare"]["kind"]
            if problem and kind_of != "import":  # a module that is not there stops nobody
                self._give_up(parent, f"the warm process could not prepare: {problem}", now)
                return
            parent.ready = True
            parent.problem = problem
            parent.due = NEVER
            for kin in parent.awaited:
                kin.due = now + HELLO_NS
            self.warm_next(parent)
        elif kind == "failed":
            for kin in [k for k in parent.awaited if k.serial in frame[1]]:
                self._lost(kin, f"the warm process could not fork: {frame[2]}")
        elif kind == "became":
            self.remove(parent)
            waiting, parent.awaited = parent.awaited, []
            for kin in waiting:
                if kin.serial != frame[1]:  # asked too late
                    self._lost(kin, "")
        elif kind == "warmed":
            parent.warming = False
            if frame[2]:
                parent.to_warm.clear()
            self.warm_next(parent)

    def greeted(self, kin: Kin, now: int) -> None:
        """`kin` has said hello: nobody need wait for it any more."""
        if kin.asked is not None:
            if kin in kin.asked.awaited:
                kin.asked.awaited.remove(kin)
            kin.asked = None
        kin.due = now + SPARE_NS if isinstance(kin, Host) and not kin.order else NEVER
        if isinstance(kin, Parent) and not kin.ready:
            kin.due = now + READY_NS

    # -- warming up -------------------------------------------------------------------------------
    def warm_up(self, chain: list[dict[str, Any]], files: list[str], now: int) -> None:
        """The chain is there, and its last collects the files one by one until it is wanted."""
        try:
            parent = self.get(chain, now)
        except NoParent:
            return
        if parent.id not in self._not_warmed:
            parent.to_warm = [f for f in files if f not in parent.warmed]
            self.warm_next(parent)

    def warm_next(self, parent: Parent) -> None:
        """One file at a time, so that work waits for one at most."""
        if parent.to_warm and parent.ready and not parent.warming and not parent.awaited:
            name = parent.to_warm.pop(0)
            parent.warmed.add(name)
            parent.warming = True
            parent.wire.tell("warm", [name])

    # -- the end ----------------------------------------------------------------------------------
    def due(self) -> int:
        """When any of them must be looked at."""
        living = [min(p.due, p.used + IDLE_NS) for p in self.living.values()]
        return min(living + [p.due for p in self.leaving], default=NEVER)

    def on_time(self, now: int) -> None:
        """Those that hang are given up, those not used are ended."""
        for parent in list(self.living.values()):
            if now >= parent.due:
                what = "prepare itself" if parent.pid else "start"
                self._give_up(parent, f"the warm process took too long to {what}", now)
            elif now >= parent.used + IDLE_NS and not parent.awaited:
                self.end(parent, now)
        for parent in self.leaving:
            if now >= parent.due:
                parent.kill()
                parent.due = now + EXIT_NS

    def end(self, parent: Parent, now: int) -> None:
        """It leaves; it is killed if it takes long."""
        self.living.pop(parent.id, None)
        self.leaving.append(parent)
        parent.leaving = True
        parent.due = now + EXIT_NS
        parent.wire.tell("exit")

    def hung(self, parent: Parent, now: int) -> None:
        """Somebody waited for too long: it is killed, and not tried again soon."""
        self._give_up(parent, "the warm process did not answer", now)

    def died(self, parent: Parent, now: int) -> None:
        """It is gone, or its socket is."""
        reason = ""
        if not parent.ready and parent.asked is None and not parent.leaving:
            reason = f"the warm process died while it started: {parent.last_words()}"
            self._fail(parent.id, reason, now)
        if parent.warming:
            self._not_warmed.add(parent.id)
        self._let_go(parent, reason)

    def unborn(self, parent: Parent, reason: str, now: int) -> None:
        """It never said hello."""
        if reason:
            self._fail(parent.id, reason, now)
        self._let_go(parent, reason)

    def _give_up(self, parent: Parent, reason: str, now: int) -> None:
        self._fail(parent.id, reason, now)
        parent.kill()
        self._let_go(parent, reason)

    def _let_go(self, parent: Parent, reason: str) -> None:
        self.remove(parent)
        if parent.asked is not None and parent in parent.asked.awaited:
            parent.asked.awaited.remove(parent)
        waiting, parent.awaited = parent.awaited, []
        for kin in waiting:
            self._lost(kin, reason)

    def remove(self, parent: Parent) -> None:
        """Nobody is forked from it any more; its process is no concern of this table."""
        if self.living.get(parent.id) is parent:
            del self.living[parent.id]
        if parent in self.leaving:
            self.leaving.remove(parent)
        if parent.pid and self._by_pid.get(parent.pid) is parent:
            del self._by_pid[parent.pid]
        if self._by_fd.get(parent.wire.fd) is parent:
            del self._by_fd[parent.wire.fd]
        parent.close()

    def _fail(self, name: str, reason: str, now: int) -> None:
        self._failed = {n: v for n, v in self._failed.items() if v[1] > now}
        self._failed[name] = reason[-2000:], now + FAILED_NS
