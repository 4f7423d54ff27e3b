"""What a command returned is on stdout in the format asked for. Rule: the one door to text."""

from __future__ import annotations

import sys
from typing import Any

from ..core.listing import Listing, Record
from ..core.session import current
from .console import say, stdout


def show(result: Any) -> int:
    """The listing, record or text is on stdout, its notes on stderr; the exit code it carries."""
    if isinstance(result, str):
        sys.stdout.write(result if result.endswith("\n") else result + "\n")
        return 0
    if not isinstance(result, (Listing, Record)):
        raise TypeError(f"a command returned {type(result).__name__}, which nobody can show")
    session = current()
    if session.format != "table":
        from .machine import listing_text, record_text

        if isinstance(result, Listing):
            sys.stdout.write(listing_text(result, session.format))
        else:
            sys.stdout.write(record_text(result, session.format))
        return result.exit_code
    from .tables import show_listing, show_record

    if isinstance(result, Record):
        show_record(stdout(), result)
    elif result.rows:
        show_listing(stdout(), result)
    elif result.empty:
        say(result.empty)
    for note in result.notes:
        say(note)
    return result.exit_code
