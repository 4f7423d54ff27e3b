"""How the supervisor is started, and what it becomes. Rule: twice the interpreter, once the memory.

The first one sets what needs ctypes; the second, in the same process, never loads it.
"""

from __future__ import annotations

import os
import signal
import sys

SERVE = "import sys; sys.path.insert(0, sys.argv[1]); from supervising.start import main; main()"
"""Run by `-c` with the arguments: folder of this package, control descriptor, agent's pid, and
"prepare" the first time. From compiled modules it starts in half the time of a script.
"""


def command(control: int, agent: int) -> list[str]:
    """The argument vector that starts a supervisor for `agent`."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [*interpreter(), folder, str(control), str(agent), "prepare"]


def interpreter() -> list[str]:
    return [sys.executable, "-I", "-S", "-c", SERVE]


def main() -> None:
    """The supervisor, until its agent is gone."""
    control, agent = int(sys.argv[2]), int(sys.argv[3])
    if sys.argv[4:] == ["prepare"]:
        if sys.platform == "linux":
            become_guardian()
        os.set_inheritable(control, True)
        again = [*interpreter(), *sys.argv[1:4]]
        os.execv(sys.executable, again)  # noqa: S606 (no shell on purpose)
    import resource

    from .loop import Supervisor

    os.set_inheritable(control, False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    Supervisor(control, agent).run()


def become_guardian() -> None:
    """This process adopts the orphans below it and dies with the agent. Both hold over the exec
    that follows, which sheds the memory ctypes took. Only Linux has it; elsewhere groups and
    the control socket must do.
    """
    import ctypes

    set_pdeathsig, set_child_subreaper = 1, 36
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(set_child_subreaper, 1, 0, 0, 0)
    prctl(set_pdeathsig, signal.SIGTERM, 0, 0, 0)
