"""The supervisor's loop. Rule: nothing in it waits, except for `poll`."""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from .bell import hang_bell
from .channel import NEVER, Channel
from .ends import Ends
from .family import Family
from .lines import Lines
from .running import ANNOUNCE_NS, LISTEN_NS, LIVE_NS, MS, Running
from .spawn import Spawner
from .table import below, childless, kill_quietly, own_peak_rss
from .warm import Warm

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any

SWEEP_NS = 250 * MS
GONE_NS = 5_000 * MS
"""How long killed processes may take to disappear before the attempt is closed without them."""
KILL_AGAIN_NS = 5 * MS


class Supervisor:
    """Every attempt of one agent, and the agent's end of the control socket."""

    def __init__(self, control: int, agent: int) -> None:
        self.agent = agent
        self.poll = select.poll()
        self.channel = Channel(control, self.poll)
        self.attempts: dict[int, Running] = {}
        self.firsts: dict[int, Running] = {}
        self.pipes: dict[int, Running] = {}
        self.lines = Lines()
        self.spawner = Spawner()
        self.warm = Warm(self)
        self.family = Family(self.attempts, self.firsts, self.warm)
        self.next_due = NEVER
        self.sweep_at = NEVER
        self.ends = Ends()
        self.floor = own_peak_rss()
        self.bell = hang_bell(self.poll)

    def run(self) -> None:
        """Serves until the agent is gone, then until every process is."""
        if os.getppid() != self.agent:
            self.agent_gone()
        while self.channel.open or not childless():
            for fd, flags in self.poll.poll(self.patience()):
                if fd == self.bell:
                    os.read(self.bell, 4096)
                    self.reap()
                    if os.getppid() != self.agent:
                        self.agent_gone()
                elif fd == self.channel.fd:
                    self.listen(flags)
                elif not self.warm.rings(fd):
                    self.read_output(self.pipes.get(fd))
            now = time.monotonic_ns()
            if now >= self.channel.flush_at:
                self.channel.flush()
            if now >= self.next_due:
                self.on_time(now)
            if now >= self.sweep_at or not self.channel.open:
                self.reap()
                self.sweep(now)

    def patience(self) -> int | None:
        """Milliseconds until something is due; None for ever."""
        due = min(self.next_due, self.sweep_at, self.channel.flush_at)
        if due == NEVER:
            return None if self.channel.open else 20
        wait = max(0, (due - time.monotonic_ns() + MS - 1) // MS)
        return wait if self.channel.open else min(20, wait)

    # -- the agent --------------------------------------------------------------------------------
    def listen(self, flags: int) -> None:
        for frame in self.channel.receive(flags):
            self.obey(frame)
        if not self.channel.open:
            self.agent_gone()

    def obey(self, frame: tuple[Any, ...]) -> None:
        kind, key = frame[0], frame[1]
        if kind == "start":
            order = frame[2]
            holder = self.lines.holders.get(order["slot"])
            if holder is None:
                self.start(key, order)
            elif holder.announced or holder.why:
                self.tell("returned", key)
            else:
                self.lines.add(holder.slot, key, order)
        elif self.lines.drop(key):
            self.tell("returned", key)
        elif kind == "kill" and key in self.attempts:
            self.end(self.attempts[key], "killed", soft=frame[2])
        elif kind == "kill":
            self.warm.kill(key)

    def agent_gone(self) -> None:
        """Nobody is left to tell: every process of every attempt dies now, and so do we."""
        self.channel.close()
        self.lines.clear()
        self.warm.end_all()
        for attempt in list(self.attempts.values()):
            self.end(attempt, "killed", soft=False)

    def tell(self, *frame: object) -> None:
        self.channel.tell(frame, time.monotonic_ns(), soon=not self.lines.long)

    def break_up(self, slot: int) -> None:
        for key in self.lines.break_up(slot):
            self.tell("returned", key)

    # -- start and output -------------------------------------------------------------------------
    def start(self, key: int, order: dict[str, Any]) -> None:
        """The attempt's first process runs or is on its way, or the agent hears why not."""
        if not self.warm.takes(key, order):
            self.spawn(key, order)

    def spawn(self, key: int, order: dict[str, Any], start: str = "", note: str = "") -> None:
        """The attempt's first process runs in a session of its own, or the agent hears why not."""
        first, second = self.spawner.spawn(order)
        if isinstance(first, str) or isinstance(second, str):
            self.tell("refused", key, first, second)
            return
        attempt = Running(key, order, first, second, time.monotonic_ns())
        attempt.start, attempt.note = start, note
        self.begun(attempt)

    def begun(self, attempt: Running) -> None:
        """The attempt runs."""
        self.attempts[attempt.key] = self.firsts[attempt.pid] = attempt
        self.pipes[attempt.output.pipe] = attempt
        self.lines.holders[attempt.slot] = attempt
        self.wake_by(attempt.due())

    def wake_by(self, due: int) -> None:
        self.next_due = min(self.next_due, due)

    def read_output(self, attempt: Running | None) -> None:
        if attempt is None:
            return
        output, now = attempt.output, time.monotonic_ns()
        if not output.read(now):
            self.close_pipe(attempt)
        if attempt.announced and attempt.live_at == NEVER and output.live:
            attempt.live_at = now
            self.wake_by(now)

    def send_live(self, attempt: Running, now: int) -> None:
        attempt.live_at = NEVER
        output = attempt.output
        if not output.live and not output.dropped:
            return
        if self.channel.crowded:
            output.drop_live()
        else:
            self.tell("output", attempt.key, *output.take_live())
        attempt.live_at = now + LIVE_NS

    def close_pipe(self, attempt: Running) -> None:
        if attempt.output.pipe >= 0:
            if attempt.listening:
                self.poll.unregister(attempt.output.pipe)
            del self.pipes[attempt.output.pipe]
            os.close(attempt.output.pipe)
            attempt.output.pipe = -1

    def detach(self, attempt: Running) -> int:
        """The pipe of an attempt that is over while its process is not; -1 when it was closed."""
        output = attempt.output
        if output.pipe >= 0:
            output.read(time.monotonic_ns())
            if attempt.listening:
                self.poll.unregister(output.pipe)
            del self.pipes[output.pipe]
        del self.firsts[attempt.pid]
        pipe, output.pipe = output.pipe, -1
        return pipe

    # -- time -------------------------------------------------------------------------------------
    def on_time(self, now: int) -> None:
        """Whatever is due for any attempt is done, and `next_due` is right again."""
        self.warm.on_time(now)
        for attempt in list(self.attempts.values()):
            if attempt.due() <= now:
                self.attend(attempt, now)
        due = min((attempt.due() for attempt in self.attempts.values()), default=NEVER)
        self.next_due = min(due, self.warm.due())

    def attend(self, attempt: Running, now: int) -> None:
        if attempt.ended:
            self.bury(attempt, now)
            return
        if not attempt.listening and now >= attempt.began + LISTEN_NS:
            attempt.listening = True
            self.poll.register(attempt.output.pipe, select.POLLIN)
        if not attempt.announced and now >= attempt.began + ANNOUNCE_NS:
            attempt.announced = True
            self.tell("started", attempt.key, attempt.pid)
            self.break_up(attempt.slot)
            self.send_live(attempt, now)
        if now >= attempt.live_at:
            self.send_live(attempt, now)
        limit = attempt.limit(now)
        if now >= attempt.kill_at:
            self.kill_all(attempt, now)
        elif limit:
            self.end(attempt, limit, soft=True)
        if now >= attempt.sample_at:
            self.sample(attempt, now)

    def sample(self, attempt: Running, now: int) -> None:
        """Memory of the attempt's processes together; looking takes at most a twentieth of the
        time.
        """
        table = self.family.table()
        rss = sum(table[pid].rss for pid in self.family.members(attempt, table))
        attempt.peak_rss = max(attempt.peak_rss, rss)
        attempt.sample_at = now + max(attempt.sample_ns, 20 * self.family.scan_ns)
        if attempt.memory_max and rss > attempt.memory_max:
            self.end(attempt, "memory", soft=False)

    # -- the end ----------------------------------------------------------------------------------
    def end(self, attempt: Running, why: str, *, soft: bool) -> None:
        """End the attempt: SIGTERM to its group and SIGKILL to all of it after the grace, or
        SIGKILL now.
        """
        if attempt.ended:
            return
        now = time.monotonic_ns()
        attempt.why = attempt.why or why
        self.break_up(attempt.slot)
        if not soft or not attempt.grace_ns:
            self.kill_all(attempt, now)
        elif attempt.kill_at == NEVER:
            attempt.kill_at = now + attempt.grace_ns
            kill_quietly(-attempt.pid, signal.SIGTERM)
            kill_quietly(-attempt.pid, signal.SIGCONT)
        self.wake_by(attempt.due())

    def kill_all(self, attempt: Running, now: int) -> None:
        """SIGKILL to every process of the attempt, again in 5 ms until none is left."""
        attempt.kill_at = now + KILL_AGAIN_NS
        if not attempt.ended:
            kill_quietly(-attempt.pid, signal.SIGKILL)
        for pid in self.family.members(attempt, self.family.table()):
            kill_quietly(pid, signal.SIGKILL)

    def reap(self) -> None:
        """Every ended child is collected: first processes of attempts, and orphans they left to
        us.
        """
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self.warm.before_death(pid)
            attempt = self.firsts.pop(pid, None)
            if attempt is not None:
                attempt.status = status
                self.first_ended(attempt)
            else:
                attempt = next((a for a in self.attempts.values() if pid in a.known), None)
            if attempt is not None:
                attempt.cpu_us += int((usage.ru_utime + usage.ru_stime) * 1e6)
                peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
                if peak > self.floor or attempt.start in ("fork", "became"):
                    attempt.peak_rss = max(attempt.peak_rss, peak)
                if attempt.ended:
                    self.bury(attempt, time.monotonic_ns())

    def first_ended(self, attempt: Running) -> None:
        """The attempt is over when its first process is; whoever outlived it is killed."""
        now = attempt.ended = time.monotonic_ns()
        attempt.kill_at = NEVER
        survivors = kill_quietly(-attempt.pid, 0)
        if childless():
            return
        if survivors or attempt.known or now - attempt.began > LIVE_NS:
            attempt.left = len(self.family.members(attempt, self.family.table()))
            if attempt.left:
                attempt.gone_by = now + GONE_NS
                self.kill_all(attempt, now)
                self.wake_by(attempt.due())
                return
            self.sweep_at = min(self.sweep_at, now)
        else:  # a look at all processes costs more than so short an attempt: one look for many
            self.sweep_at = min(self.sweep_at, now + SWEEP_NS)

    def bury(self, attempt: Running, now: int) -> None:
        """Tell the end once nothing of the attempt lives any more, or once waiting for that makes
        no sense.
        """
        if attempt.key not in self.attempts:
            return
        if attempt.gone_by == NEVER or childless():
            attempt.known = {}
        elif now < attempt.gone_by:
            self.kill_all(attempt, now)
            if attempt.known:
                return
        self.finish(attempt, now)

    def finish(self, attempt: Running, now: int) -> None:
        """The end is told, and the slot's next starts."""
        del self.attempts[attempt.key]
        del self.lines.holders[attempt.slot]
        if attempt.output.pipe >= 0:
            attempt.output.read(now)
            self.close_pipe(attempt)
        if attempt.announced:
            self.send_live(attempt, now)
        facts = self.ends.facts(attempt)
        self.next_in_line(attempt.slot)
        self.tell("done", attempt.key, facts)

    def next_in_line(self, slot: int) -> None:
        """The next order of the slot is started; one that cannot be is told, and the next tried."""
        while waiting := self.lines.next(slot):
            self.start(*waiting)

    def sweep(self, now: int) -> None:
        """Orphans of attempts that are over are killed; looked at again until there is none."""
        self.sweep_at = NEVER
        if childless():
            return
        table = self.family.table()
        orphans = self.family.orphans(table)
        lost = {p.pid for p in orphans if not self.family.may_live(p)}
        for pid in below(table, lost):
            kill_quietly(pid, signal.SIGKILL)
        if orphans:
            self.sweep_at = now + (SWEEP_NS // 10 if lost else 4 * SWEEP_NS)
