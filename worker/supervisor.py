"""The process supervisor: starts, watches and ends the processes of attempts, in a small process
of its own.

Rule: standard library only, one thread, no import of dtf (it is run as a file with `-I -S`, see
`processes.py`). It is the parent and the subreaper of every process of every attempt, so nothing
an attempt starts can leave its sight; when the agent dies in any way, the control socket ends and
the supervisor kills all of them and itself. A small parent also makes spawning cheap, and keeps
the peak memory the kernel reports honest: a child inherits the peak of whoever spawned it.

Control: frames of 4 bytes length (little endian) and a marshalled tuple; both ends are the same
interpreter.
 in:  ("start", id, order) ("kill", id, soft) ("drop", id)
 out: ("started", id, pid) ("output", id, bytes, dropped) ("done", id, facts)
      ("refused", id, stage, text) ("returned", id)

Attempts with the same slot run one after the other: the next starts without asking the agent. Once
one of them proves not to be short, whoever waits behind it is returned.
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any

MS = 1_000_000
ANNOUNCE_NS = 20 * MS
"""A shorter attempt is told by its end alone, without output chunks."""
COALESCE_NS = 2 * MS
"""Ends wait this long for company, while more short attempts are in line."""
LIVE_NS = 50 * MS
LIVE_BYTES_MAX = 64 * 1024
"""Most live output of one attempt per LIVE_NS; the rest is stored, not shown."""
BACKLOG_MAX = 4 * 1024 * 1024
"""Bytes waiting for a slow agent, above which live output is dropped."""
READ_BYTES = 64 * 1024
TAIL_BYTES = 4096
SAMPLE_NS = 1_000 * MS
MEMORY_SAMPLE_NS = 50 * MS
SWEEP_NS = 250 * MS
GONE_NS = 5_000 * MS
"""How long killed processes may take to disappear before the attempt is closed without them."""
NEVER = 1 << 62
MARKER = "DTF_ATTEMPT_ID"
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


class Process:
    """A row of the process table."""

    __slots__ = ("group", "parent", "pid", "rss", "session", "started", "zombie")

    def __init__(self, pid: int, fields: list[bytes]) -> None:
        self.pid = pid
        self.zombie = fields[0] in (b"Z", b"X")
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.started = int(fields[19])
        self.rss = int(fields[21]) * PAGE


def process_table() -> dict[int, Process]:
    """Every process of the machine by pid; empty where there is no /proc."""
    table: dict[int, Process] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return table
    for name in names:
        if name.isdigit():
            data = read_small(f"/proc/{name}/stat")
            if data:
                pid = int(name)
                table[pid] = Process(pid, data[data.rindex(b")") + 2 :].split())
    return table


def read_small(path: str) -> bytes:
    """The first 64 KiB of a /proc file; b"" when it is gone or not ours."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
    finally:
        os.close(fd)


def oom_kills() -> int:
    """How often the kernel killed for want of memory since boot; 0 where it does not tell."""
    for line in read_small("/proc/vmstat").splitlines():
        if line.startswith(b"oom_kill "):
            return int(line.split()[1])
    return 0


def below(table: dict[int, Process], roots: set[int]) -> set[int]:
    """The roots and all their descendants."""
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, ())
    return found


def kill_quietly(pid: int, number: int) -> bool:
    """Send a signal to a process (or to a group, when negative); False when there is none."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class Running:
    """One attempt: its first process, its output, its limits."""

    def __init__(self, key: int, order: dict[str, Any], pid: int, pipe: int, now: int) -> None:
        self.key = key
        self.slot: int = order["slot"]
        self.pid = pid
        self.pipe = pipe
        self.began = now
        self.began_ticks = boot_ticks()
        self.ended = 0
        """When its first process ended; 0 while it runs."""
        self.status = 0
        self.why = ""
        """Why we end it: "wall", "silence", "memory", "killed"; "" while we do not."""
        self.wall_at = now + order["wall_ns"]
        self.silence_ns: int = order["silence_ns"]
        self.grace_ns: int = order["grace_ns"]
        self.memory_max: int = order["memory_bytes"]
        self.output_at = now
        self.output_path: str = order["output_path"]
        self.output_max: int = order["output_max"]
        self.scratch: str = order["scratch"]
        self.kill_at = NEVER
        self.gone_by = NEVER
        self.announced = False
        self.live = bytearray()
        self.live_at = NEVER
        self.dropped = 0
        self.head = bytearray()
        """All output while it is small; what is in the file lies before it."""
        self.tail = b""
        self.file = -1
        self.stored = 0
        self.output_bytes = 0
        self.store_error = ""
        self.cpu_us = 0
        self.peak_rss = 0
        self.sample_ns = MEMORY_SAMPLE_NS if self.memory_max else SAMPLE_NS
        self.sample_at = now + self.sample_ns
        self.known: dict[int, int] = {}
        """Its processes when last looked at: pid -> start time."""
        self.left = 0
        """Processes that outlived the first one and were killed."""

    def due(self) -> int:
        """When it must be looked at next."""
        if self.ended:
            return min(self.kill_at, self.gone_by)
        due = min(self.kill_at, self.live_at, self.sample_at)
        if not self.announced:
            due = min(due, self.began + ANNOUNCE_NS)
        if not self.why:
            due = min(due, self.wall_at)
            if self.silence_ns:
                due = min(due, self.output_at + self.silence_ns)
        return due


class Supervisor:
    """The loop. Nothing in it waits, except for `poll`."""

    def __init__(self, control: int, agent: int) -> None:
        self.me = os.getpid()
        self.agent = agent
        self.control = control
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.attempts: dict[int, Running] = {}
        self.by_pid: dict[int, Running] = {}
        self.by_pipe: dict[int, Running] = {}
        self.slots: dict[int, Running] = {}
        self.lines: dict[int, list[tuple[int, dict[str, Any]]]] = {}
        """By slot: orders that wait for whoever runs in it."""
        self.flush_at = NEVER
        self.strangers: dict[tuple[int, int], int | None] = {}
        """Orphans of attempts by (pid, start time): whose they are, None when they do not say."""
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("DTF_")}
        self.null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.next_due = NEVER
        self.sweep_at = NEVER
        self.scan_cost = 0
        self.oom = oom_kills()
        self.floor = own_peak_rss()
        self.open = True
        self.bell, writer = os.pipe()
        for fd in (self.bell, writer, control):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)  # only a bell; from our parent's death
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.poll = select.poll()
        self.poll.register(self.bell, select.POLLIN)
        self.poll.register(control, select.POLLIN)

    def run(self) -> None:
        """Serves until the agent is gone, then until every process is."""
        if os.getppid() != self.agent:
            self.agent_gone()
        while self.open or not self.childless():
            now = time.monotonic_ns()
            due = min(self.next_due, self.sweep_at, self.flush_at)
            wait = None if due == NEVER else max(0, (due - now + MS - 1) // MS)
            events = self.poll.poll(wait if self.open else min(20, wait or 20))
            reap = False
            for fd, flags in events:
                if fd == self.bell:
                    os.read(self.bell, 4096)
                    reap = True
                    if os.getppid() != self.agent and self.open:
                        self.agent_gone()
                elif fd == self.control:
                    self.on_control(flags)
                else:
                    self.on_output(self.by_pipe.get(fd))
            if reap or not self.open:
                self.reap()
            now = time.monotonic_ns()
            if now >= self.flush_at:
                self.flush()
            if now >= self.next_due:
                self.on_time(now)
            if now >= self.sweep_at or not self.open:
                self.sweep(now)

    # -- control ----------------------------------------------------------------------------------
    def on_control(self, flags: int) -> None:
        if flags & select.POLLOUT:
            self.flush()
        if not flags & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return
        try:
            data = os.read(self.control, 1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.agent_gone()
            return
        self.inbox += data
        while len(self.inbox) >= 4:
            end = 4 + int.from_bytes(self.inbox[:4], "little")
            if len(self.inbox) < end:
                break
            frame = marshal.loads(self.inbox[4:end])  # noqa: S302 (written by our own agent)
            del self.inbox[:end]
            self.obey(frame)

    def obey(self, frame: tuple[Any, ...]) -> None:
        kind, key = frame[0], frame[1]
        if kind == "start":
            holder = self.slots.get(frame[2]["slot"])
            if holder is None:
                self.start(key, frame[2])
            elif holder.announced or holder.why:
                self.tell("returned", key)
            else:
                self.lines.setdefault(holder.slot, []).append((key, frame[2]))
        elif not self.drop(key) and kind == "kill":
            attempt = self.attempts.get(key)
            if attempt is not None:
                self.end(attempt, "killed", soft=frame[2])

    def drop(self, key: int) -> bool:
        """Whether the order waited in line; it is returned."""
        for slot, line in self.lines.items():
            for place, (waiting, _) in enumerate(line):
                if waiting == key:
                    del line[place]
                    if not line:
                        del self.lines[slot]
                    self.tell("returned", key)
                    return True
        return False

    def break_up(self, slot: int) -> None:
        """Whoever waits in the slot's line is returned."""
        for key, _ in self.lines.pop(slot, ()):
            self.tell("returned", key)

    def next_in_line(self, slot: int) -> None:
        """The next order of the slot is started; one that cannot be is told, and the next tried."""
        line = self.lines.get(slot)
        while line and slot not in self.slots:
            key, order = line.pop(0)
            self.start(key, order)
        if not line:
            self.lines.pop(slot, None)

    def agent_gone(self) -> None:
        """Nobody is left to tell: every process of every attempt dies now, and so do we."""
        self.open = False
        self.lines.clear()
        self.poll.unregister(self.control)
        for attempt in list(self.attempts.values()):
            self.end(attempt, "killed", soft=False)

    def tell(self, *frame: object) -> None:
        if not self.open:
            return
        data = marshal.dumps(frame)  # type: ignore[arg-type]
        was_empty = not self.outbox
        self.outbox += len(data).to_bytes(4, "little") + data
        if self.lines:
            self.flush_at = min(self.flush_at, time.monotonic_ns() + COALESCE_NS)
        elif was_empty or self.flush_at != NEVER:
            self.flush()

    def flush(self) -> None:
        self.flush_at = NEVER
        try:
            while self.outbox:
                del self.outbox[: os.write(self.control, self.outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self.outbox.clear()
        flags = select.POLLIN | (select.POLLOUT if self.outbox else 0)
        if self.open:
            self.poll.modify(self.control, flags)

    # -- start ------------------------------------------------------------------------------------
    def start(self, key: int, order: dict[str, Any]) -> None:
        """The attempt's first process runs in a session of its own, or the agent hears why not."""
        reader, writer = os.pipe()
        argv = order["argv"]
        environment = {**self.environment, **order["env"], MARKER: order["marker"]}
        stage = "setup"
        try:
            os.chdir(order["cwd"])
            stage = "program"
            pid = os.posix_spawn(
                find_program(argv[0], environment),
                argv,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self.null, 0),
                    (os.POSIX_SPAWN_DUP2, writer, 1),
                    (os.POSIX_SPAWN_DUP2, writer, 2),
                ],
                setsid=True,
                setsigdef=DEFAULT_SIGNALS,
            )
        except (OSError, ValueError) as error:
            os.close(reader)
            self.tell("refused", key, stage, str(error))
            return
        finally:
            os.close(writer)
        os.set_blocking(reader, False)
        now = time.monotonic_ns()
        attempt = Running(key, order, pid, reader, now)
        self.attempts[key] = self.by_pid[pid] = self.by_pipe[reader] = attempt
        self.slots[attempt.slot] = attempt
        self.poll.register(reader, select.POLLIN)
        self.next_due = min(self.next_due, attempt.due())

    # -- output -----------------------------------------------------------------------------------
    def on_output(self, attempt: Running | None) -> None:
        """Take what the pipe holds, at most 1 MiB in one go so that limits of others are kept."""
        if attempt is None:
            return
        for _ in range(16):
            try:
                data = os.read(attempt.pipe, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                self.close_pipe(attempt)
                return
            self.take_output(attempt, data)
            if len(data) < READ_BYTES:
                return

    def take_output(self, attempt: Running, data: bytes) -> None:
        attempt.output_bytes += len(data)
        attempt.output_at = time.monotonic_ns()
        attempt.tail = (attempt.tail + data)[-TAIL_BYTES:]
        room = attempt.output_max - attempt.stored - len(attempt.head)
        if room > 0:
            attempt.head += data[:room]
            if len(attempt.head) > TAIL_BYTES:
                self.store_output(attempt)
        live_room = LIVE_BYTES_MAX - len(attempt.live)
        attempt.live += data[:live_room]
        attempt.dropped += max(0, len(data) - live_room)
        if attempt.announced and attempt.live_at == NEVER:
            attempt.live_at = attempt.output_at
            self.next_due = 0

    def store_output(self, attempt: Running) -> None:
        """What was only in memory is in the attempt's output file, as far as the disk takes it."""
        try:
            if attempt.file < 0 and not attempt.store_error:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                attempt.file = os.open(attempt.output_path, flags, 0o600)
            while attempt.head and not attempt.store_error:
                count = os.write(attempt.file, attempt.head)
                attempt.stored += count
                del attempt.head[:count]
        except OSError as error:
            attempt.store_error = str(error)
        attempt.head.clear()

    def send_live(self, attempt: Running, now: int) -> None:
        attempt.live_at = NEVER
        if not attempt.live and not attempt.dropped:
            return
        if len(self.outbox) > BACKLOG_MAX:
            attempt.dropped += len(attempt.live)
        else:
            self.tell("output", attempt.key, bytes(attempt.live), attempt.dropped)
            attempt.dropped = 0
        attempt.live.clear()
        attempt.live_at = now + LIVE_NS

    def close_pipe(self, attempt: Running) -> None:
        if attempt.pipe >= 0:
            self.poll.unregister(attempt.pipe)
            del self.by_pipe[attempt.pipe]
            os.close(attempt.pipe)
            attempt.pipe = -1

    # -- time -------------------------------------------------------------------------------------
    def on_time(self, now: int) -> None:
        """Whatever is due for any attempt is done, and `next_due` is right again."""
        for attempt in list(self.attempts.values()):
            if attempt.due() <= now:
                self.attend(attempt, now)
        self.next_due = min((attempt.due() for attempt in self.attempts.values()), default=NEVER)

    def attend(self, attempt: Running, now: int) -> None:
        if attempt.ended:
            self.bury(attempt, now)
            return
        if not attempt.announced and now >= attempt.began + ANNOUNCE_NS:
            attempt.announced = True
            self.tell("started", attempt.key, attempt.pid)
            self.break_up(attempt.slot)
            self.send_live(attempt, now)
        if now >= attempt.live_at:
            self.send_live(attempt, now)
        if now >= attempt.kill_at:
            self.kill_all(attempt, now)
        elif now >= attempt.wall_at:
            self.end(attempt, "wall", soft=True)
        elif attempt.silence_ns and now >= attempt.output_at + attempt.silence_ns:
            self.end(attempt, "silence", soft=True)
        if now >= attempt.sample_at:
            self.sample(attempt, now)

    def sample(self, attempt: Running, now: int) -> None:
        """Memory of the attempt's processes together; one look takes at most a twentieth of the
        time.
        """
        table = self.table()
        members = self.members(attempt, table)
        rss = sum(table[pid].rss for pid in members)
        attempt.peak_rss = max(attempt.peak_rss, rss)
        attempt.sample_at = now + max(attempt.sample_ns, 20 * self.scan_cost)
        if attempt.memory_max and rss > attempt.memory_max:
            self.end(attempt, "memory", soft=False)

    def table(self) -> dict[int, Process]:
        before = time.monotonic_ns()
        table = process_table()
        self.scan_cost = time.monotonic_ns() - before
        return table

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
        if soft and attempt.grace_ns:
            if attempt.kill_at == NEVER:
                attempt.kill_at = now + attempt.grace_ns
                kill_quietly(-attempt.pid, signal.SIGTERM)
                kill_quietly(-attempt.pid, signal.SIGCONT)
        else:
            self.kill_all(attempt, now)
        self.next_due = min(self.next_due, attempt.due())

    def kill_all(self, attempt: Running, now: int) -> None:
        """SIGKILL to every process of the attempt, again in 5 ms until none is left."""
        attempt.kill_at = now + 5 * MS
        if not attempt.ended:
            kill_quietly(-attempt.pid, signal.SIGKILL)
        table = self.table()
        for pid in self.members(attempt, table):
            kill_quietly(pid, signal.SIGKILL)

    def members(self, attempt: Running, table: dict[int, Process]) -> set[int]:
        """Living processes of the attempt: its session and group, what they started, and orphans
        of theirs.
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
        """The attempt an orphan of ours belongs to, as its environment says; None when it does
        not say.
        """
        if process.pid in self.by_pid:
            return self.by_pid[process.pid].key
        name = (process.pid, process.started)
        if name not in self.strangers:
            mark = b"\0" + MARKER.encode() + b"="
            _, found, rest = (b"\0" + read_small(f"/proc/{process.pid}/environ")).partition(mark)
            text = rest.partition(b"\0")[0].rpartition(b".")[2]
            self.strangers[name] = int(text) if found and text.isdigit() else None
        return self.strangers[name]

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
            cpu_us = int((usage.ru_utime + usage.ru_stime) * 1e6)
            peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            attempt = self.by_pid.pop(pid, None)
            if attempt is not None:
                attempt.status = status
                self.first_ended(attempt)
            else:
                attempt = next((a for a in self.attempts.values() if pid in a.known), None)
            if attempt is not None:
                attempt.cpu_us += cpu_us
                if peak > self.floor:
                    attempt.peak_rss = max(attempt.peak_rss, peak)
                if attempt.ended:
                    self.bury(attempt, time.monotonic_ns())

    def first_ended(self, attempt: Running) -> None:
        """The attempt is over when its first process is; whoever outlived it is killed."""
        now = attempt.ended = time.monotonic_ns()
        attempt.kill_at = NEVER
        survivors = kill_quietly(-attempt.pid, 0)
        if self.childless():
            return
        if survivors or attempt.known or now - attempt.began > LIVE_NS:
            attempt.left = len(self.members(attempt, self.table()))
            if attempt.left:
                attempt.gone_by = now + GONE_NS
                self.kill_all(attempt, now)
                self.next_due = min(self.next_due, attempt.due())
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
        if now < attempt.gone_by != NEVER and not self.childless():
            self.kill_all(attempt, now)
            if attempt.known:
                return
        elif attempt.gone_by == NEVER:
            attempt.known = {}
        del self.attempts[attempt.key]
        if attempt.pipe >= 0:
            self.on_output(attempt)
            self.close_pipe(attempt)
        del self.slots[attempt.slot]
        facts = self.facts(attempt)
        self.next_in_line(attempt.slot)
        self.tell("done", attempt.key, facts)

    def facts(self, attempt: Running) -> dict[str, Any]:
        if attempt.stored:
            self.store_output(attempt)
        if attempt.file >= 0:
            os.close(attempt.file)
        killed_by_kernel = False
        if os.WIFSIGNALED(attempt.status) and os.WTERMSIG(attempt.status) == signal.SIGKILL:
            before, self.oom = self.oom, oom_kills()
            killed_by_kernel = not attempt.why and self.oom > before
        if attempt.announced:
            self.send_live(attempt, 0)
        return {
            "code": os.waitstatus_to_exitcode(attempt.status),
            "why": "oom" if killed_by_kernel else attempt.why,
            "duration_us": (attempt.ended - attempt.began) // 1000,
            "cpu_us": attempt.cpu_us,
            "peak_rss": attempt.peak_rss,
            "output_bytes": attempt.output_bytes,
            "stored": attempt.stored,
            "store_error": attempt.store_error,
            "head": bytes(attempt.head),
            "tail": attempt.tail,
            "left": attempt.left,
            "alive": len(attempt.known),
            "scratch_left": not is_empty(attempt.scratch),
        }

    def childless(self) -> bool:
        """Whether we have no child at all, living or dead."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return False

    def may_live(self, orphan: Process) -> bool:
        """Whether the orphan may belong to an attempt that runs. One whose environment does not
        say is left alone as long as an attempt runs that is older than it.
        """
        owner = self.owner(orphan)
        if owner is not None:
            return owner in self.attempts
        return any(a.began_ticks <= orphan.started for a in self.attempts.values())

    def sweep(self, now: int) -> None:
        """Orphans of attempts that are over are killed; looked at again until there is none."""
        self.sweep_at = NEVER
        if self.childless():
            self.strangers.clear()
            return
        table = self.table()
        orphans = [p for p in table.values() if p.parent == self.me and p.pid not in self.by_pid]
        self.strangers = {(p.pid, p.started): self.owner(p) for p in orphans}
        lost = {p.pid for p in orphans if not self.may_live(p)}
        for pid in below(table, lost):
            kill_quietly(pid, signal.SIGKILL)
        if orphans:
            self.sweep_at = now + (SWEEP_NS // 10 if lost else 4 * SWEEP_NS)


DEFAULT_SIGNALS = [
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGPIPE,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
]


def find_program(name: str, environment: dict[str, str]) -> str:
    """The file to run; raises FileNotFoundError. A bare name is looked up on the attempt's own
    PATH.
    """
    if "/" in name:
        return name
    for folder in environment.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder or ".", name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise FileNotFoundError(errno.ENOENT, "not found on PATH", name)


def is_empty(folder: str) -> bool:
    """Whether the directory is there, holds nothing and is as open as it was made."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not os.listdir(fd) and os.fstat(fd).st_mode & 0o7777 == 0o700
    finally:
        os.close(fd)


def boot_ticks() -> int:
    """Now, as the kernel counts the start of a process: ticks since boot."""
    if sys.platform != "linux":
        return 0
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1_000_000) // TICK_US


def own_peak_rss() -> int:
    """Peak memory of this process: below it, the peak the kernel reports for a child says
    nothing.
    """
    for line in read_small("/proc/self/status").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def become_guardian() -> None:
    """This process adopts the orphans below it and dies with the agent. Both hold over the exec
    that follows, which sheds the memory ctypes took. Only Linux has it; elsewhere groups and
    the control socket must do.
    """
    import ctypes

    set_pdeathsig, set_child_subreaper = 1, 36
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(set_child_subreaper, 1, 0, 0, 0)
    prctl(set_pdeathsig, signal.SIGTERM, 0, 0, 0)


SERVE = "import sys; sys.path.insert(0, sys.argv[1]); import supervisor; supervisor.main()"
"""As a module it comes from its compiled file: half the start-up time and memory of a script."""


def main() -> None:
    del sys.path[0]
    control, agent = int(sys.argv[2]), int(sys.argv[3])
    if sys.argv[4:] == ["prepare"]:
        if sys.platform == "linux":
            become_guardian()
        os.set_inheritable(control, True)
        os.execv(  # noqa: S606 (no shell on purpose)
            sys.executable,
            [sys.executable, "-I", "-S", "-c", SERVE, *sys.argv[1:4]],
        )
    os.set_inheritable(control, False)
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    Supervisor(control, agent).run()
