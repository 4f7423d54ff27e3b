"""Orders that run in warm processes. Rule: an order that cannot have one is started the plain way,
and says why.

Nothing here waits: an order is sent to a process that does not exist yet; with its hello the
attempt begins. A slot that has an order on its way holds an `Awaited`.
"""

from __future__ import annotations

import os
import select
import sys
import time

from .channel import NEVER
from .ends import never_ran
from .kin import Host, Kin, Parent
from .parents import Parents
from .running import MS, Awaited, Running
from .warm_up import WarmUp
from .ways import Ways

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any

    from .loop import Supervisor

HOST_IDLE_NS = 30_000 * MS
TRIES = 3
"""How often a process is asked for that its parent took with it."""


class Warm:
    """All warm processes of a supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.by_pid: dict[int, Kin] = {}
        """Those that are no first process of an attempt, or not only."""
        self.by_fd: dict[int, Kin] = {}
        """By control socket. A number is used again: look who it is before taking one out."""
        self.sup = supervisor
        self.poll = supervisor.poll
        self.parents = Parents(self.poll, supervisor.spawner, self.by_pid, self.by_fd, self._lost)
        self.hosts: dict[int, Host] = {}
        """By slot: the process its next order may share."""
        self._idle_pipes: dict[int, Host] = {}
        self._leaving: list[Host] = []
        self._warm_up = WarmUp(self.parents, supervisor.lines)
        self._ways = Ways(self)

    # -- orders -----------------------------------------------------------------------------------
    def takes(self, key: int, order: dict[str, Any]) -> bool:
        """Whether the order is on its way here; else its process is to be spawned."""
        slot, warm = order["slot"], order.get("warm")
        host = self.hosts.get(slot)
        if host is not None and host.pipe >= 0:
            self._discard(host)
        if host is not None and host.fits(order):
            self._warm_up.cancel(slot)
            self._reuse(host, key, order)
            return True
        if host is not None:
            host.next = key, order
            self.sup.lines.holders[slot] = Awaited(key, slot)
            self._retire(host)
            return True
        if not warm:
            return False
        self._warm_up.cancel(slot)
        if not os.path.isdir(order["cwd"]):
            self._ways.refuse(key, order, f"there is no folder {order['cwd']}")
        elif warm.get("start") == "spawn" or sys.platform != "linux":
            self._ways.anew(key, order)
        else:
            self._ways.forked(key, order)
            self.sup.wake_by(self.due())
        return True

    def _reuse(self, host: Host, key: int, order: dict[str, Any]) -> None:
        self.poll.unregister(host.pipe)
        del self._idle_pipes[host.pipe]
        host.take(key, order)
        self._ways.again(host)

    def begin(self, host: Host, at: int) -> None:
        """Its attempt has begun."""
        self.by_pid[host.pid] = host
        pipe, host.pipe = host.pipe, -1
        attempt = Running(host.key, host.order, host.pid, pipe, at)
        attempt.start, attempt.note = host.start, host.note
        host.attempt = attempt
        self.sup.begun(attempt)
        if not host.name and host.start != "spawn" and host.wire.idle:  # it says no more
            del self.by_fd[host.wire.fd]
            host.wire.close()

    def kill(self, key: int) -> None:
        """An order that has not begun is given up."""
        for host in list(self.hosts.values()):
            if host.next is not None and host.next[0] == key:
                order, host.next = host.next[1], None
                self._killed(key, order)
                return
        for kin in list(self.by_fd.values()):
            if isinstance(kin, Host) and kin.key == key and not kin.pid and not kin.unwanted:
                kin.unwanted = True
                self._forget(kin)
                self._killed(key, kin.order)
                return

    def _killed(self, key: int, order: dict[str, Any]) -> None:
        self.sup.lines.holders.pop(order["slot"], None)
        self.sup.tell("done", key, never_ran(order))
        self.sup.next_in_line(order["slot"])

    # -- what they say ----------------------------------------------------------------------------
    def rings(self, fd: int) -> bool:
        """Whether the descriptor is one of ours; what it has to say is heard."""
        kin = self.by_fd.get(fd)
        if kin is not None:
            kin.wire.flush()
            self.listen(kin)
            self.sup.wake_by(self.due())
            return True
        host = self._idle_pipes.get(fd)
        if host is not None:
            self._discard(host)
        return host is not None

    def listen(self, kin: Kin) -> None:
        """What it has said is known; a closed socket is its end, or as good as that."""
        for frame in kin.wire.hear():
            try:
                self._heard(kin, frame, time.monotonic_ns())
            except (IndexError, KeyError, TypeError):  # a test has written to its socket
                kin.wire.close()
        if not kin.wire.open and self.by_fd.get(kin.wire.fd) is kin:
            del self.by_fd[kin.wire.fd]
            self._silent(kin)

    def _heard(self, kin: Kin, frame: tuple[Any, ...], now: int) -> None:
        if frame[0] == "hello":
            self._greeted(kin, int(frame[1]), min(int(frame[2]), now))
        elif isinstance(kin, Parent):
            if frame[0] == "became":
                self._became(kin, frame[1], frame[2])
            self.parents.heard(kin, frame, now)
        elif frame[0] == "end" and isinstance(kin, Host):
            self._ended(kin, frame[2], frame[3], now)

    def _greeted(self, kin: Kin, pid: int, at: int) -> None:
        before = self.by_pid.get(pid)
        if before is not None and before is not kin:
            self.listen(before)  # it says that it became this one
        known = kin.pid
        kin.pid = pid
        if isinstance(kin, Host) and kin.asked is not None and kin.asked.problem:
            kin.note = kin.asked.problem
            self._ways.say(kin.note)
        self.parents.greeted(kin, time.monotonic_ns())
        if isinstance(kin, Parent):
            self.by_pid[pid] = kin
        elif isinstance(kin, Host) and kin.unwanted:
            kin.kill()
            self.drop(kin)
        elif isinstance(kin, Host) and not kin.order:
            self.by_pid[pid] = kin
        elif isinstance(kin, Host) and not known:
            self.begin(kin, at)

    def _became(self, parent: Parent, serial: int, reason: str) -> None:
        for kin in parent.awaited:
            if kin.serial == serial and isinstance(kin, Host):
                kin.start, kin.note = "became", reason
                self._warm_up.plan(kin)

    def _ended(self, host: Host, status: int, usage: dict[str, int], now: int) -> None:
        """Its attempt is over, and it goes on."""
        attempt = host.attempt
        if attempt is None or attempt.ended:
            return
        if attempt.why:  # it was to end with its attempt
            self.sup.kill_all(attempt, now)
            return
        host.attempt = None
        host.cpu_us += usage["cpu_us"]
        host.pipe = self.sup.detach(attempt)
        host.due = now + HOST_IDLE_NS
        self._warm_up.plan(host)
        if host.pipe >= 0:
            self.poll.register(host.pipe, select.POLLIN)
            self._idle_pipes[host.pipe] = host
        attempt.status = (status & 255) << 8
        attempt.cpu_us, attempt.peak_rss = usage["cpu_us"], usage["peak_rss"]
        attempt.ended = now
        attempt.known = {}  # they are the host's
        self.sup.finish(attempt, now)

    def _discard(self, host: Host) -> None:
        """What it prints while no attempt runs belongs to none."""
        try:
            while data := os.read(host.pipe, 1 << 16):
                if len(data) < 1 << 16:
                    return
        except BlockingIOError:
            return
        self._close_pipe(host)  # the end: it has closed its streams, and is of no more use

    def _close_pipe(self, host: Host) -> None:
        if self._idle_pipes.pop(host.pipe, None) is not None:
            self.poll.unregister(host.pipe)
        if host.pipe >= 0:
            os.close(host.pipe)
            host.pipe = -1

    # -- ends -------------------------------------------------------------------------------------
    def before_death(self, pid: int) -> None:
        """The process has ended: its last words are heard before its end is believed."""
        kin = self.by_pid.get(pid)
        if kin is None:
            for unknown in [k for k in self.by_fd.values() if not k.pid]:
                self.listen(unknown)
            kin = self.by_pid.get(pid)
        if kin is not None:
            self.listen(kin)
        if self.by_pid.get(pid) is kin and kin is not None:
            del self.by_pid[pid]
            kin.pid = 0
            if isinstance(kin, Parent):
                self.parents.died(kin, time.monotonic_ns())
            elif isinstance(kin, Host):
                self._host_died(kin, pid)

    def _host_died(self, host: Host, pid: int) -> None:
        self.drop(host)
        if host.attempt is not None:
            host.attempt.cpu_us -= host.cpu_us  # those of earlier attempts
            return
        if not host.order:
            return
        self.sup.family.kill_session(pid)
        self.sup.sweep_at = time.monotonic_ns()
        if host.next is not None:
            (key, order), host.next = host.next, None
            self.sup.lines.holders.pop(host.slot, None)
            self.sup.start(key, order)

    def _silent(self, kin: Kin) -> None:
        """Its socket is closed: a host ends by itself then, and is waited for."""
        if isinstance(kin, Parent):
            kin.kill()
            self.parents.died(kin, time.monotonic_ns())
        elif isinstance(kin, Host):
            if not kin.pid:
                self._lost(kin, "")
            elif kin.attempt is None:
                kin.kill()

    def _lost(self, kin: Kin, reason: str) -> None:
        """It will never say hello: its order is tried again, or started anew."""
        if kin.wire.open and not kin.pid:
            self.listen(kin)  # its hello may have come
        if kin.lost or kin.pid:
            return
        kin.lost = True
        asked, kin.asked = kin.asked, None
        if asked is not None:
            if kin in asked.awaited:
                asked.awaited.remove(kin)
            self.listen(asked)  # it may say why
        if isinstance(kin, Parent):
            self.parents.unborn(kin, reason, time.monotonic_ns())
        elif isinstance(kin, Host):
            self.drop(kin)
            if kin.order and not kin.unwanted:
                self._again(kin, reason)
                self.sup.next_in_line(kin.slot)

    def _again(self, host: Host, reason: str) -> None:
        if reason or host.tries >= TRIES:
            reason = reason or "the warm process ended again and again"
            self._ways.instead(host.key, host.order, reason)
        else:
            self._ways.forked(host.key, host.order, host.tries + 1)

    def _retire(self, host: Host) -> None:
        """It tears down and ends; it is killed after its grace."""
        if not host.leaving:
            host.leaving = True
            host.due = time.monotonic_ns() + max(host.order["grace_ns"], MS)
            host.wire.tell("exit")
            if not host.wire.open:
                host.kill()
        self.sup.wake_by(host.due)

    def _forget(self, host: Host) -> None:
        if self.hosts.get(host.slot) is host:
            del self.hosts[host.slot]

    def drop(self, host: Host) -> None:
        """Nothing of it is kept but its attempt."""
        self._forget(host)
        if self.by_pid.get(host.pid) is host and host.attempt is None:
            del self.by_pid[host.pid]
        if self.by_fd.get(host.wire.fd) is host:
            del self.by_fd[host.wire.fd]
        self._close_pipe(host)
        host.wire.close()

    def end_all(self) -> None:
        """All of them die now; those that have not said hello die of the end of their socket."""
        for kin in {*self.by_pid.values(), *self.by_fd.values()}:
            kin.kill()
            if isinstance(kin, Parent):
                self.parents.remove(kin)
            elif isinstance(kin, Host) and kin.attempt is None:
                self.drop(kin)
        self._warm_up.clear()

    # -- time -------------------------------------------------------------------------------------
    def due(self) -> int:
        """When anything here must be looked at."""
        due = min((k.due for k in self.by_fd.values()), default=NEVER)
        return min(due, self._warm_up.due(), self.parents.due())

    def on_time(self, now: int) -> None:
        for kin in list(self.by_fd.values()):
            if isinstance(kin, Host) and now >= kin.due:
                self._attend(kin, now)
        self.parents.on_time(now)
        self._warm_up.on_time(now)

    def _attend(self, host: Host, now: int) -> None:
        if host.asked is not None:
            host.due = NEVER
            self.parents.hung(host.asked, now)
        elif host.leaving:
            host.due = now + 100 * MS
            host.kill()
        elif not host.order:
            host.lost = True
            self.drop(host)
        elif host.attempt is None:
            self._retire(host)
