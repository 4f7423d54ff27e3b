"""What the agent says about warm processes: which parents an order wants. Rule: pure but for the
name of the running interpreter; two orders that could share a parent name it alike.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

PROGRAM = str(Path(__file__).resolve().with_name("__main__.py"))
AT_START = ("PYTHON", "LD_", "DYLD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "TZ")
"""Beginnings of variables that an interpreter or its libraries read once, when they start."""

Link = dict[str, Any]
"""A parent: {"id", "prepare"}, and the first of a chain {"argv", "env", "cwd"}: `argv` without the
descriptor of its socket, `env` is added to the agent's environment.
"""


def first_link(python: str, env: Mapping[str, str], prepare: Mapping[str, Any]) -> Link:
    """A parent that is started anew; `python` "" is our own interpreter."""
    argv = [python or sys.executable, "-P", PROGRAM]
    identity = msgspec.json.encode([argv, dict(env), dict(prepare)], order="sorted")
    return {
        "id": sha256(identity).hexdigest()[:24],
        "argv": argv,
        "env": dict(env),
        "cwd": "/",
        "prepare": dict(prepare),
    }


def read_at_start(name: str) -> bool:
    """Whether the variable is of no use once the interpreter runs."""
    return name.startswith(AT_START)
