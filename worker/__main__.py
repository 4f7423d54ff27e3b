"""The program `dtf-worker`. Rule: a wrong option is one sentence with its remedy, never a
traceback.
"""

from __future__ import annotations

import sys

from .. import __version__


def main() -> int:
    """Run the command line; the exit status (see `core/exit_codes.py`)."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        sys.stdout.write(f"dtf-worker {__version__}\n")
        return 0
    from cyclopts import App, CycloptsError

    from ..core.errors import DtfError
    from ..core.exit_codes import ExitCode
    from .commands import worker_run

    app = App(
        name="dtf-worker",
        help="Run tasks of a dtf pool on this machine.",
        version=__version__,
        result_action="return_value",
    )
    app.command(worker_run, name="run")
    try:
        code = app(sys.argv[1:], exit_on_error=False, print_error=True)
        return int(code or 0)
    except CycloptsError:
        return ExitCode.USAGE
    except DtfError as error:
        from .process import said

        return said(error)


if __name__ == "__main__":
    sys.exit(main())
