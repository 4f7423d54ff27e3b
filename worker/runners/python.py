"""Runner `python` in a process of its own: what to start. Rule: pure; the work is done by
`child.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.model import TaskSpec
from ..attempt import Attempt
from ..warm.chain import Link, first_link, read_at_start

CHILD = str(Path(__file__).resolve().with_name("child.py"))


def python_line(attempt: Attempt) -> list[str]:
    """The argument vector that runs the target in a fresh interpreter, with nothing of the agent
    on its path.
    """
    spec = attempt.spec
    return [spec.python or sys.executable, "-P", CHILD, spec.target]


def python_warm(spec: TaskSpec, env: Mapping[str, str], folder: str) -> dict[str, Any] | None:
    """`Order.warm` of a task whose process finds `env` in its environment and its code in `folder`,
    "" when it has none; None when it is to be started anew.
    """
    if spec.start == "spawn" or sys.platform != "linux":
        return None
    warm_env = parent_environment(spec, env)
    if warm_env is None:
        return None
    return {
        "chain": [python_link(spec, warm_env, folder)],
        "host": "",
        "start": spec.start,
        "work": {"kind": "python", "target": spec.target},
    }


def parent_environment(spec: TaskSpec, env: Mapping[str, str]) -> dict[str, str] | None:
    """The part of a task's environment that its parent must have too: what is read when an
    interpreter starts, and with `preload`, all that is not the task's own. None when that would
    differ from task to task.
    """
    given = {name: text for name, text in env.items() if not name.startswith("DTF_")}
    own = {name for name, text in spec.env.items() if env.get(name) != text}
    if own & {name for name in given if read_at_start(name)}:
        return None
    return {n: t for n, t in given.items() if n not in own and (spec.preload or read_at_start(n))}


def python_link(spec: TaskSpec, env: Mapping[str, str], folder: str) -> Link:
    """The parent: an interpreter that looks for modules in the task's code first, with its
    `preload` imported.
    """
    prepare = {
        "kind": "import",
        "runners": ["python"],
        "modules": list(spec.preload),
        "path": [folder] if folder else [],
    }
    return first_link(spec.python, env, prepare)
