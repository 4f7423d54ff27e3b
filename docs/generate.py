"""The generated reference is up to date after `make docs`; `--check` fails when it is not.

Rule: reference pages are never edited by hand; what is wrong on one is wrong in the code.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from pathlib import Path

from generators import commands, errors, events, settings, suites, tables

DOCS = Path(__file__).parent
PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": commands.page,
    "reference/events.md": events.page,
    "reference/schema/events.schema.json": events.schema,
    "reference/config.md": settings.page,
    "reference/errors.md": errors.errors_page,
    "reference/exit-codes.md": errors.exit_codes_page,
    "reference/suite.md": suites.page,
    "reference/tables.md": tables.page,
}
NOTICE = "<!-- Generated from the code by `make docs`; edit the code, not this page. -->\n"


def rendered(name: str) -> str:
    """The page as it should be."""
    text = PAGES[name]()
    if not name.endswith(".md"):
        return text
    heading, _, rest = text.partition("\n")
    return f"{heading}\n\n{NOTICE}{rest}"


def outdated(name: str) -> list[str]:
    """How the page on disk differs from the code, as a diff; empty when it does not."""
    path = DOCS / name
    now = path.read_text() if path.exists() else ""
    lines = difflib.unified_diff(
        now.splitlines(), rendered(name).splitlines(), f"docs/{name}", "the code", lineterm=""
    )
    return list(lines)


def main() -> int:
    if "--check" not in sys.argv[1:]:
        for name in PAGES:
            (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
            (DOCS / name).write_text(rendered(name))
        return 0
    failed = False
    for name in PAGES:
        diff = outdated(name)
        if diff:
            failed = True
            print("\n".join(diff[:40]))
            print(f"error: docs/{name} does not match the code. Run `make docs` and commit it.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
