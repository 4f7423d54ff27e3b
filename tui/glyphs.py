"""How a verdict or state looks. Rule: never colour alone; ASCII where a terminal needs it."""

from __future__ import annotations

from typing import NamedTuple


class Look(NamedTuple):
    """A mark with its ASCII twin, the word for people, and a rich style."""

    glyph: str
    letter: str
    word: str
    style: str


LOOKS: dict[str, Look] = {
    "passed": Look("✔", "P", "passed", "green"),
    "failed": Look("✘", "F", "failed", "bold red"),
    "error": Look("⚠", "E", "error", "bold red"),
    "timed_out": Look("⧖", "T", "timed out", "red"),
    "fallback": Look("⚠", "!", "fallback", "yellow"),
    "no_capacity": Look("⚠", "N", "no capacity", "yellow"),
    "lost": Look("⚠", "L", "lost", "red"),
    "cancelled": Look("↷", "C", "cancelled", "yellow"),
    "skipped": Look("↷", "S", "skipped", "dim"),
    "running": Look("▶", "R", "running", "cyan"),
    "queued": Look("◌", "Q", "queued", "dim"),
    # runs
    "incomplete": Look("⚠", "!", "incomplete", "yellow"),
    "empty": Look("◌", "0", "empty", "yellow"),
    "rejected": Look("✘", "X", "rejected", "bold red"),
    "submitted": Look("◌", "Q", "submitted", "dim"),
    "open": Look("◌", "Q", "open", "dim"),
    "settled": Look("✔", "P", "settled", "green"),
    "active": Look("▶", "R", "active", "cyan"),
    "replaced": Look("↷", "X", "replaced", "dim"),
    # attempts
    "assigned": Look("◌", "Q", "assigned", "dim"),
    "returned": Look("↷", "B", "returned", "dim"),
    "closed": Look("↷", "X", "closed", "yellow"),
    # workers, coordinators
    "up": Look("✔", "+", "up", "green"),
    "joined": Look("✔", "+", "up", "green"),
    "leader": Look("✔", "+", "leader", "green"),
    "follower": Look("◌", "o", "follower", "dim"),
    "draining": Look("↷", "D", "draining", "yellow"),
    "drained": Look("↷", "D", "drained", "yellow"),
    "superseded": Look("◌", "-", "superseded", "dim"),
    "left": Look("◌", "-", "left", "dim"),
    # checks of the doctor
    "ok": Look("✔", "+", "ok", "green"),
    "warning": Look("⚠", "!", "warning", "yellow"),
    "missing": Look("✘", "x", "missing", "bold red"),
    "absent": Look("◌", "-", "not here", "dim"),
}
WORST_FIRST = (
    "failed", "error", "timed_out", "fallback", "no_capacity", "cancelled",
    "running", "queued", "skipped", "passed",
)  # fmt: skip
"""Of several tasks in one cell, the one people must see."""


def look(name: str) -> Look:
    """The look of a verdict or state; an unknown one shows its own name without a mark."""
    return LOOKS.get(name) or Look("?", "?", name.replace("_", " "), "")


def mark(name: str, *, ascii_only: bool = False) -> str:
    """The one-character mark of a verdict or state."""
    seen = look(name)
    return seen.letter if ascii_only else seen.glyph


def worst(names: object) -> str | None:
    """The verdict or state people must see first, or None of nothing."""
    present = set(names) if isinstance(names, (set, frozenset, list, tuple, dict)) else set()
    for name in WORST_FIRST:
        if name in present:
            return name
    return min(present, default=None)
