"""docs/reference/cli.md, from the command tree in cli.py."""

from __future__ import annotations

import re

from cyclopts import App
from dtf.cli import COMMANDS, EVERYWHERE, GROUPS, PANELS, Command, make_app
from dtf.worker.commands import worker_run

INTRODUCTION = """# Commands

Data goes to stdout, narration to stderr. Every command takes the options of
[the last section](#everywhere) and ends with one of these [exit codes](exit-codes.md).
"""

COORDINATOR = """### dtf-coordinator

Short for `dtf coordinator`.
"""


def page() -> str:
    app = make_app()
    parts = [INTRODUCTION]
    for panel in PANELS:
        parts.append(f"## {panel}\n")
        parts += [_section(app, command) for command in COMMANDS if _panel(command) == panel]
    parts.append(f"## The other programs\n\n{_worker_program()}\n\n{COORDINATOR}")
    parts.append(f"## {EVERYWHERE.name}\n\nThe same for every command.\n\n{_everywhere(app)}\n")
    return "\n".join(parts)


def _panel(command: Command) -> str:
    """The panel of a command is that of its group, where it has one."""
    group = command.words.rpartition(" ")[0]
    return GROUPS[group][1] if group else command.panel


def _section(app: App, command: Command) -> str:
    for word in command.words.split():
        app = app[word]
    text = app.generate_docs(heading_level=3, usage_name=f"dtf {command.words}")
    return f"### dtf {command.words}\n{text.partition(chr(10))[2].rstrip()}\n"


def _worker_program() -> str:
    app = App(name="dtf-worker")
    app.command(worker_run, name="run")
    text = app["run"].generate_docs(heading_level=3, usage_name="dtf-worker run")
    return f"### dtf-worker run\n{text.partition(chr(10))[2].rstrip()}"


def _everywhere(app: App) -> str:
    """The options of the root, as cyclopts lists them under their panel."""
    text = app.meta.generate_docs(recursive=False)
    listed = re.search(rf"^\*\*{EVERYWHERE.name}\*\*:\n+((?:\* .*\n?)+)", text, re.MULTILINE)
    assert listed is not None, "the root's options are no longer under their panel"
    return listed[1].rstrip()
