"""docs/reference/suite.md, from core/suite_keys.py."""

from __future__ import annotations

from dtf.core.model import HARDWARE
from dtf.core.suite_keys import BUNDLE_KEYS, DEFAULT_KEYS, SUITE_KEYS, TASK_KEYS

from .source import cell, table

INTRODUCTION = """# Suite files

A suite is a TOML file that says what to run. Unknown keys are refused by name. Durations are
`"250ms"`, `"30s"`, `"1h30m"` or a number of seconds; sizes are `"64M"` or a number of bytes.
[Write a suite](../how-to/write-a-suite.md) shows them at work.
"""


def page() -> str:
    own = {key: about for key, about in TASK_KEYS.items() if key not in DEFAULT_KEYS}
    classes = ", ".join(f"`{name}`" for name in HARDWARE)
    parts = [
        INTRODUCTION,
        _section("The file", "", SUITE_KEYS),
        _section("[bundle]", "`bundle = false` ships nothing.", BUNDLE_KEYS),
        _section("[[task]]", "One of `command`, `python` and `pytest`; at most one array.", own),
        _section("[[task]] or [defaults]", "", DEFAULT_KEYS),
        f"Accelerator classes: {classes}.\n",
    ]
    return "\n".join(parts)


def _section(title: str, words: str, keys: dict[str, str]) -> str:
    rows = [[f"`{key}`", cell(about)] for key, about in keys.items()]
    text = f"{words}\n\n" if words else ""
    return f"## {title}\n\n{text}{table(['key', 'meaning'], rows)}\n"
