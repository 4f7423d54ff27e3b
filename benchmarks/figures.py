"""What a benchmark says. Rule: a figure is a ratio against a limit or a peer measured in the same
run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from msgspec import Struct


class Figure(Struct, kw_only=True, omit_defaults=True):
    """One line of the table. `met` is None where no bar is set."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    """The limit or the peer's figure, in `unit`, measured beside `value`."""
    ratio: float | None = None
    bar: float | None = None
    """What `ratio` (or `value`, without a limit) must reach."""
    aim: float | None = None
    met: bool | None = None
    peer: str = ""
    """What `limit` is."""
    note: str = ""


def at_least(
    name: str, value: float, unit: str, bar: float, *, aim: float | None = None, note: str = ""
) -> Figure:
    """`value` itself must reach `bar`."""
    return Figure(name=name, value=value, unit=unit, bar=bar, aim=aim, met=value >= bar, note=note)


def at_most(
    name: str, value: float, unit: str, bar: float, *, aim: float | None = None, note: str = ""
) -> Figure:
    """`value` itself must not exceed `bar`."""
    return Figure(name=name, value=value, unit=unit, bar=bar, aim=aim, met=value <= bar, note=note)


def times(
    name: str,
    pairs: Sequence[tuple[float, float]],
    unit: str,
    peer: str,
    bar: float,
    *,
    aim: float | None = None,
    lower: bool = False,
    note: str = "",
) -> Figure:
    """The median of the interleaved ratios value/limit must reach `bar` (or stay below, if
    `lower`)."""
    ratio = statistics.median(value / limit for value, limit in pairs)
    return Figure(
        name=name,
        value=statistics.median(value for value, _ in pairs),
        unit=unit,
        limit=statistics.median(limit for _, limit in pairs),
        ratio=ratio,
        bar=bar,
        aim=aim,
        met=ratio <= bar if lower else ratio >= bar,
        peer=peer,
        note=note,
    )


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]
