"""How a process that ran a test ends. Rule: what a script's end does is done; the interpreter is
not torn down.

Tearing down would touch every page shared with the parent, for nothing. What is left out: `__del__`
and weak references of objects that live until the end.
"""

from __future__ import annotations

import _io
import os
import sys

TYPE_CHECKING = False  # importing typing takes 4 ms
if TYPE_CHECKING:
    from typing import NoReturn

BROKEN_OUTPUT = 120
"""The interpreter's own exit status when stdout could not be flushed."""


def leave(status: int) -> NoReturn:
    """The process ends with the status; its threads have ended, its files are written."""
    try:
        finish_threads()
        call_atexit()
        flush_files()
        if not flush_streams() and status == 0:
            status = BROKEN_OUTPUT
    finally:
        os._exit(status & 255)


def finish_threads() -> None:
    """Threads that are no daemons have ended."""
    threading = sys.modules.get("threading")
    if threading is not None:
        try:
            threading._shutdown()  # what the interpreter calls at its end
        except BaseException as error:  # a Ctrl-C while waiting
            sys.excepthook(type(error), error, error.__traceback__)


def call_atexit() -> None:
    """What was registered has been called, the last one first."""
    import atexit

    try:
        atexit._run_exitfuncs()  # it prints what they raise
    except BaseException:  # the last of what they raised: told already
        return


def flush_files() -> None:
    """Files that were never closed are written as their deletion would have. Those from before the
    fork are frozen, hence not seen.
    """
    import gc

    writers = (_io.TextIOWrapper, _io.BufferedWriter, _io.BufferedRandom)
    for found in gc.get_objects():
        if issubclass(type(found), writers):
            try:
                if not found.closed:
                    found.flush()
            except (OSError, ValueError):  # not writable, or its descriptor is gone
                continue


def flush_streams() -> bool:
    """Whether stdout and stderr have written all they had, where they are open."""
    written = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except AttributeError:  # a test put something of its own there
            continue
        except (OSError, ValueError):
            written = False
    return written
