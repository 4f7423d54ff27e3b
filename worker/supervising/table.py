"""What the kernel says about processes. Rule: reads and signals only; what is gone is no error."""

from __future__ import annotations

import os
import sys
import time

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


def childless() -> bool:
    """Whether this process has no child at all, living or dead."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


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
