"""Parameters in text: "{name}" stands for the parameter of that name.

Rule: the border and the worker use this one reading.

Pure. Only a name in braces is a placeholder (a letter first), so JSON and shell text pass
unchanged; "{{name}}" is the literal "{name}". A string parameter is put in as it is, any other as
JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

_PLACEHOLDER = re.compile(r"\{(\{?)([A-Za-z][A-Za-z0-9_-]{0,63})\}(\}?)")


def placeholders(text: str) -> list[str]:
    """The names `text` asks for, in order of appearance, repeats included."""
    return [m[2] for m in _PLACEHOLDER.finditer(text) if not (m[1] and m[3])]


def shown_value(value: object) -> str:
    """A parameter as text: strings as they are, everything else as compact JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def fill_in(text: str, params: Mapping[str, object]) -> str:
    """`text` with every placeholder replaced; raises KeyError with the first name that is not among
    `params`.
    """
    return _PLACEHOLDER.sub(_replacement(params), text)


def _replacement(params: Mapping[str, object]) -> Callable[[re.Match[str]], str]:
    def replace(found: re.Match[str]) -> str:
        if found[1] and found[3]:
            return "{" + found[2] + "}"
        return found[1] + shown_value(params[found[2]]) + found[3]

    return replace
