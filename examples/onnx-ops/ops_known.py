"""What a backend is known not to do.

Rule: a listed failure counts only when it fails the listed way.

`known/<backend>.toml` lists node tests with the reason and a piece of the failure's text. A listed
test is run all the same: it is skipped with the reason when it fails as listed, passes when it
passes, and fails when it fails otherwise.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "known"


@dataclass(frozen=True)
class Known:
    """Why a test cannot pass, and the text its failure contains."""

    reason: str
    error: str


@functools.cache
def known_failures(backend: str) -> dict[str, Known]:
    """The listed failures of `backend` by the test's name; empty for a backend without a list."""
    path = FOLDER / f"{backend}.toml"
    if not path.exists():
        return {}
    found: dict[str, Known] = {}
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["known"]:
        for name in entry["cases"]:
            if name in found:
                raise ValueError(f"{path.name} lists {name!r} twice")
            found[name] = Known(entry["reason"], entry["error"])
    return found


def judge(backend: str, name: str, failure: str) -> tuple[str, str]:
    """(verdict, message) of a test that ended with `failure`, or well when it is empty."""
    known = known_failures(backend).get(name)
    if not failure:
        stale = f"listed in known/{backend}.toml, but it passes: remove it there"
        return "passed", stale if known else ""
    if known and known.error in failure:
        return "skipped", f"{known.reason}: {failure}"
    return "failed", failure
