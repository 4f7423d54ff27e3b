"""What goes into a report line, bounded. Rule: every line is valid UTF-8 JSON below 900 KiB,
whatever a test put into its report.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

LINE_BYTES_MAX = 900 * 1024
TEXT_CHARS_MAX = 256 * 1024
ID_CHARS_MAX = 2000
MESSAGE_CHARS_MAX = 1024
_LIST_ENTRIES_MIN = 64
_quick = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def wire_id(nodeid: str) -> str:
    """The node id as it travels: valid UTF-8, at most 2,000 characters (a longer one ends with 16
    hex digits of its hash), the same on every machine.
    """
    if len(nodeid) <= ID_CHARS_MAX and nodeid.isascii():
        return nodeid
    text = nodeid.encode("utf-8", "backslashreplace").decode()
    if len(text) <= ID_CHARS_MAX:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[: ID_CHARS_MAX - 20]}...#{digest}"


def digest_of(ids: Iterable[str]) -> str:
    """First 16 hex digits of sha256 over the ids in order, joined by newlines."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def first_line(text: str) -> str:
    """The first line that says something, at most 1 KiB of characters."""
    for line in text.split("\n", 20):
        if line.strip():
            return line.strip()[:MESSAGE_CHARS_MAX]
    return ""


def encode(line: dict[str, Any]) -> bytes:
    """One report line with its newline. What JSON has no word for is told by its repr."""
    try:
        data = _quick(line).encode()
    except (TypeError, ValueError, RecursionError):  # also UnicodeEncodeError: a lone surrogate
        line = _clean(line, 0)
        data = _quick(line).encode()
    if len(data) <= TEXT_CHARS_MAX:
        return data + b"\n"
    return _bounded(line, data)


def _bounded(line: dict[str, Any], data: bytes) -> bytes:
    """Texts lose their middle, from 256 KiB down, until the line is short enough."""
    limit = TEXT_CHARS_MAX
    while limit >= 64:
        told = [False]
        shorter = _cut(line, limit, told)
        if told[0]:
            detail = (shorter.get("case") or {}).get("detail")
            if isinstance(detail, dict):
                detail["cut"] = True
            data = _quick(shorter).encode()
        if len(data) <= LINE_BYTES_MAX:
            return data + b"\n"
        limit //= 4
    return _last_resort(line)


def _last_resort(line: dict[str, Any]) -> bytes:
    """Thousands of reports in one case: what the case ended as must arrive, the rest is told as
    left out.
    """
    case = line.get("case")
    if case is None:
        collected = dict(line.get("collected") or {})
        collected.pop("ids", None)  # told by their digest; the reader asks again with smaller files
        return _quick({"collected": collected} if collected else {}).encode() + b"\n"
    detail = case.get("detail") or {}
    reports = detail.get("reports") or []
    kept = {key: detail[key] for key in ("t", "line", "domain", "file") if key in detail}
    last = max(len(reports) - 3, 0)  # a passed subtest counts only in the summary of -q and -v
    telling = [r for n, r in enumerate(reports) if n >= last or r.get("outcome") != "passed"]
    kept |= {"cut": True, "reports": [_skeleton(r) for r in telling[-500:]]}
    return _quick({"case": {**case, "detail": kept}}).encode() + b"\n"


def _skeleton(report: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in report.items() if not isinstance(v, (dict, list))}
    if not isinstance(kept.get("longrepr"), (str, type(None))) or "longrepr" not in kept:
        kept["longrepr"] = "left out: the report of this case is larger than 900 KiB"
    kept |= {"sections": [], "user_properties": [], "keywords": {}}
    kept["location"] = report.get("location")
    if "_subtest.context" in report:
        kept["_subtest.context"] = _cut(report["_subtest.context"], 256, [False])
    return kept


def _cut(value: Any, limit: int, told: list[bool]) -> Any:
    """The same value with long texts and long lists of lines without their middle."""
    if isinstance(value, str):
        if len(value) <= limit:
            return value
        told[0] = True
        half = limit // 2
        left = len(value) - 2 * half
        return f"{value[:half]}\n[... {left} characters left out ...]\n{value[-half:]}"
    if isinstance(value, dict):
        return {key: _cut(item, limit, told) for key, item in value.items()}
    if isinstance(value, list | tuple):
        most = max(_LIST_ENTRIES_MIN, limit // 16)
        if len(value) > most and all(isinstance(item, str) for item in value):
            told[0] = True
            half = most // 2
            gap = f"[... {len(value) - 2 * half} lines left out ...]"
            value = [*value[:half], gap, *value[-half:]]
        return [_cut(item, limit, told) for item in value]
    return value


def _clean(value: Any, depth: int) -> Any:
    """The same value in words of JSON and UTF-8; what is nested too deep or strange, as text."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        finite = value == value and value not in (float("inf"), float("-inf"))
        return float(value) if finite else str(value)
    if depth < 40:
        if isinstance(value, dict):
            return {_clean(_text(k), 0): _clean(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_clean(item, depth + 1) for item in value]
    return _clean(_text(value), depth)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    speak: Callable[[Any], str] = str if isinstance(value, int | float | bytes) else repr
    try:
        return speak(value)[:TEXT_CHARS_MAX]
    except Exception as error:  # a repr of somebody's test may raise anything
        return f"<{type(value).__name__} whose text raised {type(error).__name__}>"
