"""The bell. Rule: a child's end and our parent's wake the loop like any other descriptor."""

from __future__ import annotations

import os
import select
import signal


def hang_bell(poll: select.poll) -> int:
    """A descriptor that rings when a child ends, or when our parent has."""
    reader, writer = os.pipe()
    for fd in (reader, writer):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    poll.register(reader, select.POLLIN)
    return reader
