"""Rendering for tests: what a console of a given width would show, as plain text."""

from __future__ import annotations

import io

from rich.console import Console


def console(width: int = 80, *, color: bool = False, encoding: str = "utf-8") -> Console:
    """A console that remembers what was printed on it."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(
        file=file,
        width=width,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def shown(screen: Console) -> str:
    """Everything printed so far, without the blanks at the ends of lines."""
    file = screen.file
    assert isinstance(file, io.TextIOWrapper)
    buffer = file.buffer
    assert isinstance(buffer, io.BytesIO)
    text = buffer.getvalue().decode(file.encoding)
    return "\n".join(line.rstrip() for line in text.splitlines())
