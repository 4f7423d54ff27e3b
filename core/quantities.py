"""Durations and sizes as people write them.

Rule: one spelling for every file and option; units are never guessed.

Pure. A duration is "250ms", "30s", "5m", "1h30m", "2d", or a number of seconds. A size is "64M",
"1.5GiB", "10kB", or a number of bytes: K M G T and KiB MiB GiB TiB are powers of 1024, kB MB GB TB
powers of 1000.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

_DURATION_MS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|min|s|m|h|d)\s*")
_SIZE_BYTES = {"": 1, "b": 1}
_SIZE_BYTES |= {
    letter + tail: 1024**power
    for power, letter in enumerate("kmgt", start=1)
    for tail in ("", "ib")
}
_SIZE_BYTES |= {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
QUANTITY_MAX = 2**40
"""No duration in milliseconds is longer (34 years)."""
BYTES_MAX = 2**53

DURATION_FORM = 'write it as "30s", "5m", "1h30m", "250ms", or as a number of seconds'
SIZE_FORM = 'write it as "64M", "4G", "1.5GiB", "10kB", or as a number of bytes'


def duration_ms(value: object) -> int:
    """Whole milliseconds, rounded up so that nothing above zero becomes zero.

    ValueError says what is wrong.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is no duration; {DURATION_FORM}")
    if isinstance(value, str):
        exact = _duration_text(value)
    else:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value!r} is no duration; {DURATION_FORM}")
        exact = Decimal(str(value)) * 1000
    if exact < 0:
        raise ValueError(f"{value!r} is negative; {DURATION_FORM}")
    total = math.ceil(exact)
    if total > QUANTITY_MAX:
        raise ValueError(f"{value!r} is longer than {QUANTITY_MAX} ms, the most there is")
    return total


def _duration_text(text: str) -> Decimal:
    total, position, stripped = Decimal(0), 0, text.strip()
    while found := _DURATION_PART.match(stripped, position):
        total += Decimal(found[1]) * _DURATION_MS[found[2]]
        position = found.end()
    if not stripped or position != len(stripped):
        raise ValueError(f"{text!r} is no duration; {DURATION_FORM}")
    return total


def size_bytes(value: object) -> int:
    """Whole bytes, rounded up. ValueError says what is wrong."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{value!r} is no size; {SIZE_FORM}")
    if isinstance(value, int):
        total = value
    else:
        found = _SIZE.fullmatch(value.strip())
        factor = _SIZE_BYTES.get(found[2].lower()) if found else None
        if found is None or factor is None:
            raise ValueError(f"{value!r} is no size; {SIZE_FORM}")
        total = math.ceil(Decimal(found[1]) * factor)
    if not 0 <= total <= BYTES_MAX:
        raise ValueError(f"{value!r} is not between 0 and {BYTES_MAX} bytes")
    return total


def show_bytes(count: int) -> str:
    """A size for people: "1.5 MiB"."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def show_ms(duration: int) -> str:
    """A duration for people, in the form `duration_ms` reads: "1h30m", "250ms"."""
    if duration < 1000:
        return f"{duration}ms"
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, duration = divmod(duration, _DURATION_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
