"""Starting one process. Rule: in a session of its own, with nothing of ours open but its three
streams.
"""

from __future__ import annotations

import errno
import os
import signal

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any

    from .wire import Wire

MARKER = "DTF_ATTEMPT_ID"
DEFAULT_SIGNALS = [
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGPIPE,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
]
"""Back to their defaults in the child; what we ignore it would inherit."""


class Spawner:
    """Starts first processes of attempts with the environment this process was given."""

    def __init__(self) -> None:
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("DTF_")}
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def spawn(self, order: dict[str, Any]) -> tuple[int, int] | tuple[str, str]:
        """(pid, pipe with its output), or (stage, reason) when it cannot be: stage "setup" is the
        worker's fault, "program" the task's.
        """
        stage, fds = "setup", []
        try:
            fds = [*os.pipe()]
            os.chdir(order["cwd"])  # one thread: posix_spawn has no working directory of its own
            stage = "program"
            pid = self._run(order["argv"], self.environ(order), fds[1])
            os.set_blocking(fds[0], False)
            return pid, fds.pop(0)
        except (OSError, ValueError) as error:
            return stage, str(error)
        finally:
            for fd in fds:
                os.close(fd)

    def spawn_warm(self, link: dict[str, Any], wire: Wire, output: int) -> int:
        """The pid of a warm process that prints to `output`. Raises OSError, ValueError."""
        os.chdir(link["cwd"])
        os.set_inheritable(wire.other, True)
        try:
            argv = [*link["argv"], str(wire.other)]
            output = output if output >= 0 else self._null
            return self._run(argv, {**self._environment, **link["env"]}, output)
        finally:
            wire.shut_other()

    def environ(self, order: dict[str, Any]) -> dict[str, str]:
        """All variables of the attempt's process."""
        return {**self._environment, **own_variables(order)}

    def _run(self, argv: list[str], environment: dict[str, str], output: int) -> int:
        return os.posix_spawn(
            find_program(argv[0], environment),
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, self._null, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigdef=DEFAULT_SIGNALS,
        )


def own_variables(order: dict[str, Any]) -> dict[str, str]:
    """Variables the attempt has beside those of all."""
    return {**order["env"], MARKER: order["marker"]}


def find_program(name: str, environment: dict[str, str]) -> str:
    """The file to run; raises FileNotFoundError. A bare name is looked up on the attempt's own
    PATH.
    """
    if "/" in name:
        return name
    for folder in environment.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder or ".", name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise FileNotFoundError(errno.ENOENT, "not found on PATH", name)


def is_empty(folder: str) -> bool:
    """Whether the directory is there, holds nothing and is as open as it was made."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not os.listdir(fd) and os.fstat(fd).st_mode & 0o7777 == 0o700
    finally:
        os.close(fd)
