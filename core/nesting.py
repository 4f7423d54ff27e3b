"""How deep JSON text nests.

Rule: whether an element is too deep follows from its bytes alone. A parser that recurses gives up
where the caller's stack ends, so two readers of one log would disagree about what is valid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

DEPTH_MAX = 500
"""Levels of objects and arrays one element of a message may have. Whoever folds needs this much of
Python's recursion limit (1,000) left."""
_TO_BRACES = bytes.maketrans(b"[]", b"{}")
_NOT_OPENING = bytes(byte for byte in range(256) if byte not in b"{[")
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'{}[]"')
_STRING = re.compile(rb'"[^"]*"')
_RUN = re.compile(rb"\{+|\}+")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]+|[\]}]+', re.DOTALL)


def openings(data: bytes) -> int:
    """How many opening brackets the text has, those inside strings included. Half a ns a byte."""
    return len(data.translate(None, _NOT_OPENING))


def nests_deeper(data: bytes, depth_max: int) -> bool:
    """Whether JSON text nests deeper than `depth_max`.

    Text that is no JSON may be called deep, but a no is certain for every prefix of any text, so a
    parser that is told no cannot run out of stack. Costs 1 to 3 ns a byte, hostile text 100.
    """
    if b"\\" in data:
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    # Taking two neighbouring quotes away moves nothing from inside a string to outside or back.
    brackets = data.translate(_TO_BRACES, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in brackets:
        brackets = _STRING.sub(b"", brackets)
    for _ in range(min(4, depth_max)):  # usual messages are flat: the innermost pairs go away
        brackets, depth_max = brackets.replace(b"{}", b""), depth_max - 1
    depth = 0
    for run in _RUN.findall(brackets):
        depth += len(run) if run[0] == 123 else -len(run)
        if depth > depth_max:
            return True
    return depth != 0


def without_deep(data: bytes, depth_max: int) -> bytes:
    """The JSON text with `0` in place of every element of its top-level array, or of the whole,
    that nests deeper than `depth_max`; empty when its brackets do not match."""
    kept: list[bytes] = []
    end = 0
    for start, stop, levels in _elements(data):
        if levels < 0:
            return b""
        if levels > depth_max:
            kept += [data[end:start], b"0"]
            end = stop
    return b"".join([*kept, data[end:]])


def _elements(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(start, stop, levels) of each nested element of the top-level array, or of the whole object.

    Levels count from the element itself; -1 says that the brackets do not match.
    """
    outside = 1 if data.lstrip(b" \t\r\n").startswith(b"[") else 0
    depth = start = deepest = 0
    for token in _TOKEN.finditer(data):
        here, length = token.start(), token.end() - token.start()
        if data[here] in b"{[":
            if depth <= outside < depth + length:
                start, deepest = here + outside - depth, 0
            depth += length
            deepest = max(deepest, depth - outside)
        elif data[here] in b"}]":
            if depth - length <= outside < depth:
                yield start, here + depth - outside, deepest
            depth -= length
            if depth < 0:
                break
    if depth:
        yield 0, 0, -1
