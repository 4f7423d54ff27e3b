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
