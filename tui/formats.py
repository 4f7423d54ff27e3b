"""Numbers as people read them. Rule: pure and short; unknown is a dash, never a zero."""

from __future__ import annotations

UNKNOWN = "-"
RUN_ID_SHOWN = 10
"""Characters of a run id in tables; a unique prefix is accepted wherever a run is named."""
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def duration(us: float | None, *, ascii_only: bool = False) -> str:
    """A duration in microseconds with three significant digits: `38 µs`, `1.24 s`, `2 m 05 s`."""
    if us is None:
        return UNKNOWN
    if us < 999.5:
        return f"{us:.0f} us" if ascii_only else f"{us:.0f} µs"
    if us < 999_500:
        return f"{_three(us / 1e3)} ms"
    seconds = us / 1e6
    if seconds < 59.95:
        return f"{_three(seconds)} s"
    return span(seconds)


def span(seconds: float) -> str:
    """A span in its two largest units, from seconds up: `12 s`, `2 m 05 s`, `1 h 02 m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def ago(time_ns: int | None, now_ns: int) -> str:
    """How long before `now_ns` a Unix time was, roughly: `4 s ago`, `3 h ago`.

    A clock set back reads as `0 s ago`.
    """
    if time_ns is None:
        return UNKNOWN
    seconds = max(0, (now_ns - time_ns) // 1_000_000_000)
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def size(count: float | None) -> str:
    """Bytes in binary units: `512 B`, `1.24 GiB`."""
    if count is None:
        return UNKNOWN
    for unit in _BINARY:
        if count < 1023.5 or unit == _BINARY[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{_three(count)} {unit}"
        count /= 1024
    raise AssertionError


def number(value: float | None) -> str:
    """Any number, four significant digits when it is no integer: `20,000`, `0.9983`."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int) or (abs(value) < 1e15 and value == int(value)):
        return f"{int(value):,}"
    return f"{value:.4g}"


def cores(milli: int | None) -> str:
    """Thousandths of a core as cores: `1.5`."""
    return UNKNOWN if milli is None else f"{milli / 1000:g}"


def plural(count: int, noun: str) -> str:
    """`1 task`, `20,000 tasks`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def short_run(run: str) -> str:
    """A run id short enough for a table; anything else unchanged."""
    return run[:RUN_ID_SHOWN] if len(run) == 26 else run


def shorten(text: str, width: int, *, ellipsis: str = "…") -> str:
    """`text` in at most `width` characters; the end is cut."""
    if len(text) <= width:
        return text
    return text[: max(0, width - len(ellipsis))] + ellipsis[:width]


def _three(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
