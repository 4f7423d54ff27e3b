"""The next useful command, ready to be typed. Rule: what was given on this command line stays."""

from __future__ import annotations

import shlex

from ..core.session import current
from .formats import short_run
from .outcome import Outcome

_KEPT = {"server": "--server", "pool": "--pool", "context": "--context", "data_dir": "--data-dir"}


def command(*words: str) -> str:
    """A `dtf` command line that reaches the pool this one reaches."""
    flags = current().flags
    kept = [part for key, flag in _KEPT.items() if key in flags for part in (flag, str(flags[key]))]
    return shlex.join(["dtf", *words, *kept])


def after_run(outcome: Outcome) -> str:
    """What to type when a run is over."""
    run = short_run(outcome.run)
    looked_at = next((f for f in outcome.failures if f.attempts and f.verdict != "cancelled"), None)
    if looked_at is not None:
        return command("task", "log", f"{run}/{looked_at.task}")
    if outcome.counts.get("no_capacity"):
        return command("worker", "ls")
    if outcome.counts.get("cancelled"):
        return command("runs", "retry", run)
    return command("runs", "show", run)
