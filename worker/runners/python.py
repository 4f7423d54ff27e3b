"""Runner `python` in a process of its own: what to start. Rule: pure; the work is done by
`child.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..attempt import Attempt

CHILD = str(Path(__file__).resolve().with_name("child.py"))


def python_line(attempt: Attempt) -> list[str]:
    """The argument vector that runs the target in a fresh interpreter, with nothing of the agent
    on its path.
    """
    return [sys.executable, "-P", CHILD, attempt.spec.target]
