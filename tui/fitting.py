"""Column widths that fit a line. Rule: what may give way gives way first, the widest of it most.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

LEAST = 8
"""No column is made narrower than this by choice."""
GAP = 2


def fit(widths: Sequence[int], flexible: Sequence[bool], room: int) -> list[int]:
    """Widths of columns that together with the gaps between them take at most `room`.

    Flexible columns shrink first, always the widest one; then, where that is not enough, the
    others. When the line is too short even so, the widths stay at their least.
    """
    fitted = list(widths)
    excess = sum(fitted) + GAP * (len(fitted) - 1) - room
    for may in (True, False):
        places = [place for place, flag in enumerate(flexible) if flag is may]
        excess = _shrink(fitted, places, excess)
    return fitted


def _shrink(widths: list[int], places: Sequence[int], excess: int) -> int:
    """Take `excess` from the widest of some columns, in steps; what could not be taken."""
    while excess > 0:
        able = sorted((widths[place], place) for place in places if widths[place] > LEAST)
        if not able:
            break
        widest, place = able[-1]
        rest = able[-2][0] if len(able) > 1 else LEAST
        step = min(excess, max(1, widest - max(rest, LEAST)))
        widths[place] -= step
        excess -= step
    return excess
