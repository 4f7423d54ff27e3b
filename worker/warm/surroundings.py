"""What a process finds around itself: streams, variables, folder, seeds, usage. Rule: a clone's are
those of a fresh process.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # importing typing takes 4 ms
if TYPE_CHECKING:
    from typing import Any


def unforkable() -> str:
    """Why this process must not be forked, or ""."""
    if sys.platform != "linux":
        return f"a fork is not safe on {sys.platform}"
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"{threads} threads run in it"
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is not None and cuda.is_initialized():
        return "CUDA is initialised in it"
    return ""


def take_output(output: int) -> None:
    """Streams 1 and 2 are the pipe, 0 is empty; the descriptor itself is closed."""
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, stream in ((null, 0), (output, 1), (output, 2)):
        os.dup2(fd, stream)
    for fd in (null, output):
        if fd > 2:
            os.close(fd)


def enter(order: dict[str, Any], before: list[str]) -> list[str]:
    """Variables and folder are those of the order; the names of its variables. Those of the order
    `before` that it has not are gone; what was set otherwise stays, as modules rely on it.
    """
    variables: dict[str, str] = order["env"]
    environ = os.environ
    zone = environ.get("TZ")
    for name in before:
        if name not in variables:
            environ.pop(name, None)
    environ.update(variables)
    if environ.get("TZ") != zone:
        time.tzset()
    os.chdir(order["cwd"])
    return list(variables)


def reseed() -> None:
    """Generators that a fresh process seeds from the system are. (`random` does so by itself.)"""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


Usage = tuple[int, float]


def usage_start() -> Usage:
    """What `usage_since` needs; the peak memory counts from now on."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:  # the peak is then that of the whole life
        pass
    return time.process_time_ns(), _children_s()


def usage_since(began: Usage) -> dict[str, int]:
    """Processor time with that of ended children, and peak memory; 0 where it cannot be told."""
    own_ns, children_s = began
    cpu_us = (time.process_time_ns() - own_ns) // 1000 + int((_children_s() - children_s) * 1e6)
    return {"cpu_us": cpu_us, "peak_rss": _peak_rss()}


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _peak_rss() -> int:
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
