"""What is told about an attempt that is over. Rule: facts; what they mean the agent decides."""

from __future__ import annotations

import os
import signal

from .running import Running
from .spawn import is_empty
from .table import oom_kills

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any


class Ends:
    """Facts of attempts, one after the other."""

    def __init__(self) -> None:
        self._oom = oom_kills()

    def facts(self, attempt: Running) -> dict[str, Any]:
        """The end of the attempt; its output is closed."""
        attempt.output.close()
        killed_by_kernel = False
        if os.WIFSIGNALED(attempt.status) and os.WTERMSIG(attempt.status) == signal.SIGKILL:
            before, self._oom = self._oom, oom_kills()
            killed_by_kernel = not attempt.why and self._oom > before
        return {
            "code": os.waitstatus_to_exitcode(attempt.status),
            "why": "oom" if killed_by_kernel else attempt.why,
            "duration_us": (attempt.ended - attempt.began) // 1000,
            "cpu_us": attempt.cpu_us,
            "peak_rss": attempt.peak_rss,
            "left": attempt.left,
            "alive": len(attempt.known),
            "scratch_left": not is_empty(attempt.scratch),
            "start": attempt.start,
            "note": attempt.note,
            **attempt.output.facts(),
        }


def never_ran(order: dict[str, Any]) -> dict[str, Any]:
    """The end of an attempt that was killed before it had a process."""
    return {
        "code": -signal.SIGKILL,
        "why": "killed",
        "duration_us": 0,
        "cpu_us": 0,
        "peak_rss": 0,
        "output_bytes": 0,
        "stored": 0,
        "scratch_left": not is_empty(order["scratch"]),
    }
