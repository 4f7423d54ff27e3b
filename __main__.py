"""The `dtf` program. Rule: `dtf --version` answers before anything else is imported."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; the exit status (see `core/exit_codes.py`)."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from . import __version__

        sys.stdout.write(f"dtf {__version__}\n")
        return 0
    if "up" in sys.argv[1:] and not {"--detach", "--help", "-h"} & set(sys.argv):
        from . import crew

        crew.first = crew.Crew()  # its imports take as long as ours
    from .cli import run_command_line

    status = run_command_line(sys.argv[1:])
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is over: a late Ctrl-C changes nothing
    return status


def coordinator() -> int:
    """Run `dtf coordinator` with this process's arguments: the program `dtf-coordinator`."""
    from .cli import run_command_line

    return run_command_line(["coordinator", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
