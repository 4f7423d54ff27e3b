"""Streams: colour and width as the user and the terminal want them."""

from __future__ import annotations

import io

import pytest
from dtf.core.session import Session
from dtf.tui.console import PIPE_WIDTH, ascii_only, make_console


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "DTF_ASCII", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def printed(stream: io.StringIO, session: Session) -> str:
    make_console(stream, session).print("x", style="red")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("stream", "color", "env", "colored"),
    [
        (Terminal(), "auto", {}, True),
        (Terminal(), "never", {}, False),
        (Terminal(), "auto", {"NO_COLOR": "1"}, False),
        (Terminal(), "auto", {"TERM": "dumb"}, False),
        (Terminal(), "always", {"NO_COLOR": "1"}, True),
        (io.StringIO(), "auto", {}, False),
        (io.StringIO(), "auto", {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), "always", {}, True),
    ],
)
def test_colour_is_for_people_who_want_it(
    stream: io.StringIO,
    color: str,
    env: dict[str, str],
    colored: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[31m" in printed(stream, Session(color=color))) is colored  # type: ignore[arg-type]


def test_a_pipe_is_as_wide_as_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_console(io.StringIO(), Session()).width == PIPE_WIDTH
    monkeypatch.setenv("COLUMNS", "70")
    assert make_console(io.StringIO(), Session()).width == 70


def test_marks_are_ascii_where_they_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ascii_only(make_console(Terminal(), Session()))
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    assert ascii_only(make_console(latin, Session()))
    monkeypatch.setenv("DTF_ASCII", "1")
    assert ascii_only(make_console(Terminal(), Session()))
