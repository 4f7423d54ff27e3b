"""What `@pytest.mark.dtf(...)` may say. Rule: an unknown word, or a value that means nothing, is
an error of the file it stands in, told when the file is collected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from _pytest.reports import CollectErrorRepr, CollectReport

ISOLATIONS = ("none", "shard", "file", "case")
_MEMORY = re.compile(r"\d+(\.\d+)?\s*([kKMGT]i?)?B?")


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _memory(value: Any) -> bool:
    return _positive(value) or (isinstance(value, str) and bool(_MEMORY.fullmatch(value)))


WORDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "hardware": (_name, "a class of devices, such as 'cuda'"),
    "memory": (_memory, "a size, such as '4G'"),
    "isolation": (lambda value: value in ISOLATIONS, f"one of {', '.join(ISOLATIONS)}"),
    "retries": (_count, "a whole number, 0 or more"),
    "timeout": (_positive, "seconds, above 0"),
    "group": (_name, "a name"),
}


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def needs_of(item: Any) -> tuple[str, int]:
    """(hardware class, bytes of memory) a case asks for; ("", 0) for what it does not say."""
    if item.get_closest_marker("dtf") is None:
        return "", 0
    hardware, memory = "", 0
    for marker in item.iter_markers("dtf"):  # the closest one that says it
        hardware = hardware or str(marker.kwargs.get("hardware") or "")
        memory = memory or _bytes(marker.kwargs.get("memory") or 0)
    return hardware, memory


def wants_a_process(item: Any) -> bool:
    """Whether a case asks for a process of its own."""
    if item.get_closest_marker("dtf") is None:
        return False
    said = (marker.kwargs.get("isolation") for marker in item.iter_markers("dtf"))
    return next(filter(None, said), "") == "case"


def _bytes(value: Any) -> int:
    if not isinstance(value, str):
        return int(value)
    text = value.rstrip("B").strip().lower()
    units = _BINARY if text.endswith("i") else _UNITS
    text = text.removesuffix("i")
    unit = text[-1] if text[-1:] in units and text[-1:] else ""
    return int(float(text.removesuffix(unit)) * units.get(unit, 1))


def problem_of(item: Any) -> str:
    """What is wrong with the markers of a case; "" when nothing is."""
    for marker in item.iter_markers("dtf"):
        if marker.args:
            return f"{item.nodeid}: dtf({marker.args[0]!r}) has a value without a name"
        for word, value in marker.kwargs.items():
            if word not in WORDS:
                return f"{item.nodeid}: dtf({word}=...) is none of {', '.join(WORDS)}"
            fits, wanted = WORDS[word]
            if not fits(value):
                return f"{item.nodeid}: dtf({word}={value!r}) must be {wanted}"
    return ""


def wrong_markers(path: str, items: Iterable[Any]) -> CollectReport | None:
    """The failed collection of a file whose markers are wrong; None when they are right."""
    problems = dict.fromkeys(filter(None, map(problem_of, items)))
    if not problems:
        return None
    return CollectReport(path, "failed", CollectErrorRepr("\n".join(problems)), [])
