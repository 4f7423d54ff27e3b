"""What the benchmarks run."""

from __future__ import annotations

import time


def noop(i: int = 0) -> int:
    """Returns its argument."""
    return i


def touch_and_hold(path: str = "", seconds: float = 60.0) -> None:
    """Say in a file that it began, then hold on."""
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{time.time_ns()}\n")
    time.sleep(seconds)
