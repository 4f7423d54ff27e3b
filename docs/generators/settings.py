"""docs/reference/config.md, from core/settings.py and the defaults of core/config.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dtf.core.config import load_config
from dtf.core.settings import SETTINGS, masked

from .source import cell, table

INTRODUCTION = """# Configuration

A setting has one name everywhere: `data_dir` in a file is the flag `--data-dir` and the variable
`DTF_DATA_DIR`. Sources, strongest first:

1. command-line flags;
2. `DTF_*` environment variables;
3. the project's `dtf.toml`, or `[tool.dtf]` in its `pyproject.toml`, found upwards from here;
4. the context in use (`dtf context`), which a stronger source may name;
5. the user's `config.toml`;
6. the machine's.

Credentials belong to the server they were written with: with a server from a stronger source, those
of a weaker one are left out. `dtf config show --origin` names the source of every value in force.
"""
PER_MACHINE = {
    "publisher": "your account's name",
    "worker": "the host's name",
    "data_dir": "`.dtf` beside the project file, else the platform's data directory",
}


def page() -> str:
    rows = []
    with tempfile.TemporaryDirectory() as nowhere:
        config = load_config({}, {}, Path(nowhere), Path(nowhere))
    for key, setting in SETTINGS.items():
        value = masked(key, getattr(config, key))
        default = PER_MACHINE.get(key) or (f"`{value}`" if value else "unset")
        rows.append([f"`{key}`", default, cell(setting.about)])
    return f"{INTRODUCTION}\n{table(['setting', 'default', 'meaning'], rows)}\n"
