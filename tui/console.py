"""The two streams of a command. Rule: stdout is data, stderr is narration; colour is for people."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

from ..core.session import Session, current

if TYPE_CHECKING:
    from rich.text import Text

PIPE_WIDTH = 10_000
"""Width of a stream nobody looks at: rows stay whole, so that `grep` and `cut` see everything."""
_MARKS = "✔✘▶◌⧖↷⚠µ…"


def make_console(stream: TextIO, session: Session, *, width: int | None = None) -> Console:
    """A console on `stream` that obeys --color, NO_COLOR, FORCE_COLOR, COLUMNS and TERM=dumb."""
    color = session.color
    terminal = True if color == "always" else None
    if width is None and not stream.isatty() and "COLUMNS" not in os.environ:
        width = PIPE_WIDTH
    return Console(
        file=stream,
        no_color=True if color == "never" else (False if color == "always" else None),
        color_system=None if color == "never" else ("standard" if color == "always" else "auto"),
        force_terminal=terminal,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def ascii_only(console: Console) -> bool:
    """Whether the console's encoding (or DTF_ASCII=1) leaves only ASCII marks."""
    if os.environ.get("DTF_ASCII", "") not in ("", "0"):
        return True
    try:
        _MARKS.encode(console.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def stdout() -> Console:
    """The console of stdout, under the current session."""
    return make_console(sys.stdout, current())


def stderr() -> Console:
    """The console of stderr, under the current session."""
    return make_console(sys.stderr, current())


def say(text: str | Text, *, style: str = "") -> None:
    """One line of narration on stderr, unless --quiet."""
    if not current().quiet:
        stderr().print(text, style=style or None, overflow="fold", soft_wrap=True)


def warn(text: str) -> None:
    """A line people must see: on stderr, also with --quiet."""
    console = stderr()
    sign = "!" if ascii_only(console) else "⚠"
    console.print(f"{sign} {text}", style="yellow", soft_wrap=True)
