"""How a command fails in front of people. Rule: what failed, what is unchanged, what comes next."""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence

from cyclopts import CycloptsError, UnknownCommandError

from ..core.errors import BrokenInvariant, DtfError
from ..core.exit_codes import ExitCode, code_for_error
from ..core.session import current
from .console import stderr

TRACE_ENV = "DTF_TRACE"


def say_usage(error: CycloptsError, commands: Sequence[str]) -> None:
    """A wrong command line is explained; `commands` are all commands there are, as typed."""
    chain = " ".join(["dtf", *(error.command_chain or ())])
    if isinstance(error, UnknownCommandError):
        text, following = _unknown_command(error, commands)
    else:
        text, following = " ".join(str(error).split()), f"{chain} --help"
    _say("error", text)
    _say("next", following, label_style="dim")


def _unknown_command(error: UnknownCommandError, commands: Sequence[str]) -> tuple[str, str]:
    """What is wrong and what to type. cyclopts would load every command to say the same."""
    chain = [word for word in error.command_chain or () if word]
    word = (error.unused_tokens or [""])[0]
    prefix = "".join(f"{part} " for part in chain)
    known = sorted({c[len(prefix) :].split()[0] for c in commands if c.startswith(prefix)})
    near = difflib.get_close_matches(word, known, n=1)
    text = f"there is no command `dtf {prefix}{word}`"
    if near:
        return text, f"dtf {prefix}{near[0]}"
    if prefix:
        text += f"; there are: {', '.join(known)}"
    return text, f"dtf {prefix}--help"


def say_failure(error: BaseException, arguments: Sequence[str]) -> int:
    """The failure is on stderr; the exit status for it."""
    cause = _single(error)
    if isinstance(cause, BrokenPipeError):
        _close_stdout()
        return ExitCode.PASSED
    if isinstance(cause, KeyboardInterrupt):
        _say("interrupted", "")
        return ExitCode.INTERRUPTED
    if isinstance(cause, SystemExit):
        return cause.code if isinstance(cause.code, int) else ExitCode.FAILED
    if _trace_wanted():
        stderr().print("".join(traceback.format_exception(error)).rstrip(), style="dim")
    if isinstance(cause, DtfError):
        _say("error", str(cause))
        if cause.remedy:
            _say("next", cause.remedy, label_style="dim")
        return code_for_error(cause)
    return _say_bug(error, cause, arguments)


def _say_bug(error: BaseException, cause: BaseException, arguments: Sequence[str]) -> int:
    """A bug of ours: one line, and the whole story in a file to send along."""
    what = "broken invariant" if isinstance(cause, BrokenInvariant) else type(cause).__name__
    first = str(cause).splitlines()[0] if str(cause) else "without a message"
    _say("error", f"dtf has a bug: {what}: {first}")
    try:
        path = _write_story(error, arguments)
    except OSError as problem:
        _say("next", f"run again with {TRACE_ENV}=1 (no trace could be written: {problem})")
    else:
        _say("next", f"report it with the trace in {path}", label_style="dim")
    return ExitCode.FAILED


def _write_story(error: BaseException, arguments: Sequence[str]) -> str:
    from .. import __version__

    stamp = time.strftime("%Y%m%d-%H%M%S")
    file, path = tempfile.mkstemp(prefix=f"dtf-trace-{stamp}-", suffix=".txt")
    with open(file, "w", encoding="utf-8") as out:
        out.write(f"dtf {__version__} on Python {sys.version}\narguments: {list(arguments)}\n\n")
        out.write("".join(traceback.format_exception(error)))
    return path


def _single(error: BaseException) -> BaseException:
    """The one error inside nested groups of tasks; the first own error where there are several."""
    while isinstance(error, BaseExceptionGroup):
        own = error.subgroup(DtfError)
        error = own.exceptions[0] if own is not None else error.exceptions[0]
    return error


def _trace_wanted() -> bool:
    return current().verbose >= 2 or os.environ.get(TRACE_ENV, "") not in ("", "0")


def _say(label: str, text: str, *, label_style: str = "bold red") -> None:
    from rich.text import Text

    line = Text()
    if label == "next":
        line.append("  next: ", style=label_style)
    else:
        line.append(f"{label}: " if text else label, style=label_style)
    line.append(text)
    stderr().print(line, soft_wrap=True)


def _close_stdout() -> None:
    """Whoever read stdout is gone: nothing more can be said there, also not at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
