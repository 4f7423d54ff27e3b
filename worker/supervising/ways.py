"""How an order gets its process. Rule: forked where that can be, else started anew, and then it
says why; an order never waits for another way to fail twice.
"""

from __future__ import annotations

import os
import time

from .kin import Host, Parent
from .parents import NoParent
from .running import MS, Awaited
from .spawn import own_variables

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any

    from .warm import Warm

BUSY_NS = 100 * MS
"""Who is asked for a process again so soon makes spare ones too."""
SPARES = 3


class Ways:
    """Processes for orders. Whatever it cannot do is told to the agent."""

    def __init__(self, warm: Warm) -> None:
        self._warm = warm
        self._sup = warm.sup
        self._said: set[str] = set()

    def forked(self, key: int, order: dict[str, Any], tries: int = 1) -> None:
        """A process is forked for the order, unless that cannot be."""
        now = time.monotonic_ns()
        try:
            parent = self._warm.parents.get(order["warm"]["chain"], now)
            host = self._spare(parent, order) or self._asked(parent, order, now)
        except NoParent as error:
            self.instead(key, order, str(error))
            return
        except OSError as error:
            self.refuse(key, order, f"no process could be asked for: {error}")
            return
        host.take(key, order)
        host.tries = tries
        self._send(host)
        self._hold(host)
        if host.pid:
            self._warm.begin(host, now)

    def _spare(self, parent: Parent, order: dict[str, Any]) -> Host | None:
        """A process that was forked ahead: for orders that share none."""
        while parent.spares and not order["warm"]["host"]:
            host = parent.spares.pop(0)
            if host.wire.open and not host.lost:
                return host
        return None

    def _asked(self, parent: Parent, order: dict[str, Any], now: int) -> Host:
        """The parent is asked for a process, and for some to spare when it is asked often."""
        often = parent.ready and now - parent.asked_at < BUSY_NS and not order["warm"]["host"]
        parent.asked_at = now
        hosts, outputs = [], []
        for _ in range(1 + SPARES if often else 1):
            host = Host(self._warm.poll)
            host.pipe, output = os.pipe()
            os.set_blocking(host.pipe, False)
            self._warm.by_fd[host.wire.fd] = host
            hosts.append(host)
            outputs.append(output)
        self._warm.parents.fork(parent, hosts, outputs, now)
        parent.spares += hosts[1:]
        return hosts[0]

    def instead(self, key: int, order: dict[str, Any], reason: str) -> None:
        """It could not be forked."""
        if order["warm"].get("start") == "fork":
            self.refuse(key, order, f"start 'fork' was asked for: {reason}")
            return
        self.say(f"started anew instead of forked: {reason}")
        self.anew(key, order, f"started anew: {reason}")

    def say(self, text: str) -> None:
        """It is in the worker's log, once."""
        if text and text not in self._said and len(self._said) < 100:
            self._said.add(text)
            self._sup.tell("warned", 0, text)

    def anew(self, key: int, order: dict[str, Any], note: str = "") -> None:
        """The order's own command, if it has one; else the program of its chain is started."""
        self._sup.lines.holders.pop(order["slot"], None)
        if order["argv"]:
            self._sup.spawn(key, order, "spawn", note)
            return
        try:
            host = self._started(order)
        except (OSError, ValueError) as error:
            self.refuse(key, order, f"the interpreter did not start: {error}")
            return
        host.take(key, order)
        host.start, host.note = "spawn", note
        for link in order["warm"]["chain"]:
            if link["prepare"] is not None:
                host.wire.tell("prepare", link["prepare"])
        self._send(host)
        self._hold(host)
        self._warm.begin(host, time.monotonic_ns())

    def _started(self, order: dict[str, Any]) -> Host:
        """A warm process of its own. Raises OSError, ValueError."""
        host = Host(self._warm.poll)
        self._warm.by_fd[host.wire.fd] = host
        output = -1
        link = {
            "argv": order["warm"]["chain"][0]["argv"],
            "cwd": order["cwd"],
            "env": self._sup.spawner.environ(order),
        }
        try:
            host.pipe, output = os.pipe()
            os.set_blocking(host.pipe, False)
            host.pid = self._sup.spawner.spawn_warm(link, host.wire, output)
        except (OSError, ValueError):
            self._warm.drop(host)
            raise
        finally:
            if output >= 0:
                os.close(output)
        return host

    def refuse(self, key: int, order: dict[str, Any], text: str) -> None:
        """The order has no process, which is the worker's fault."""
        self._sup.lines.holders.pop(order["slot"], None)
        self._sup.tell("refused", key, "setup", text)

    def again(self, host: Host) -> None:
        """A process that has run others runs the order it was given."""
        host.start, host.note = "host", ""
        self._send(host)
        self._warm.begin(host, time.monotonic_ns())

    def _send(self, host: Host) -> None:
        run = {
            "env": own_variables(host.order),
            "cwd": host.order["cwd"],
            "once": not host.name,
            "work": host.order["warm"]["work"],
        }
        host.wire.tell("run", host.key, run)

    def _hold(self, host: Host) -> None:
        """The slot is the host's, until its attempt has begun and beyond."""
        if host.name:
            self._warm.hosts[host.slot] = host
        if not host.pid:
            self._sup.lines.holders[host.slot] = Awaited(host.key, host.slot)
