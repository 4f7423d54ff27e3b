"""Named contexts: a server and how to reach it, one file each.

Rule: only the owner may read a context file.

A context is `<user directory>/contexts/<name>.toml` with the keys of the configuration, mode 0600.
The one in use is named by `<user directory>/context`.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InvalidConfig, NotFound
from .ids import check_name, is_name, random_id
from .settings import SETTINGS, masked
from .tables import Table, did_you_mean, read_toml, shown


class ContextStore:
    """The contexts of one user. Every call reads the files anew; nothing is cached."""

    def __init__(self, user_dir: Path) -> None:
        self.directory = user_dir / "contexts"
        self.current_file = user_dir / "context"

    def path(self, name: str) -> Path:
        """Where the context of that name is, or would be. Raises `InvalidName`."""
        return self.directory / f"{check_name(name, 'context')}.toml"

    def names(self) -> list[str]:
        """All contexts, sorted."""
        if not self.directory.is_dir():
            return []
        return sorted(p.stem for p in self.directory.glob("*.toml") if is_name(p.stem))

    def current(self) -> str | None:
        """The context in use, or None. It may be gone: `read` then says so."""
        try:
            return self.current_file.read_text("utf-8").strip() or None
        except FileNotFoundError:
            return None

    def use(self, name: str | None) -> None:
        """The context is in use from now on; None: none is. Raises `NotFound`."""
        if name is None:
            self.current_file.unlink(missing_ok=True)
        else:
            self._demand(name)
            _write_private(self.current_file, f"{name}\n")

    def add(self, name: str, values: Mapping[str, Any], *, replace: bool = False) -> Path:
        """The context is on disk, complete, readable by its owner only.

        Raises `InvalidConfig`, also when it exists.
        """
        path = self.path(name)
        if path.exists() and not replace:
            raise InvalidConfig(
                f"context {name!r} exists already at {path}",
                remedy=f"Remove it first (dtf context rm {name}), or replace it.",
            )
        kept = {key: value for key, value in values.items() if value is not None}
        check_settings(Table(kept, str(path), "", InvalidConfig), path.parent)
        lines = [f"{key} = {_toml_value(value)}\n" for key, value in kept.items()]
        _write_private(path, "".join(lines))
        return path

    def read(self, name: str) -> dict[str, Any]:
        """The checked values of a context, as written. Raises `NotFound` and `InvalidConfig`."""
        path = self._demand(name)
        values = read_toml(path, InvalidConfig)
        check_settings(Table(values, str(path), "", InvalidConfig), path.parent)
        if any(SETTINGS[key].secret for key in values) and _readable_by_others(path):
            raise InvalidConfig(
                f"{path} holds a secret and others may read it", remedy=f"Run: chmod 600 {path}"
            )
        return values

    def show(self, name: str) -> dict[str, str]:
        """The values of a context for people, secrets masked."""
        return {key: masked(key, value) for key, value in self.read(name).items()}

    def validate(self, name: str) -> list[str]:
        """What is wrong with a context; empty when nothing is.

        Does not connect. Raises `NotFound`.
        """
        try:
            values = self.read(name)
        except InvalidConfig as problem:
            return [f"{problem}. {problem.remedy}".strip()]
        problems = [] if "server" in values else [f"{self.path(name)}: names no server"]
        for key in ("creds", "tls_ca", "tls_cert", "tls_key"):
            file = SETTINGS[key].read(values[key], self.directory) if key in values else None
            if file is not None and not file.is_file():
                problems.append(f"{self.path(name)}: {key}: no such file: {file}")
        return problems

    def remove(self, name: str) -> None:
        """The context is gone; when it was in use, none is. Raises `NotFound`."""
        path = self._demand(name)
        if self.current() == name:
            self.use(None)
        path.unlink()

    def _demand(self, name: str) -> Path:
        path = self.path(name)
        if not path.is_file():
            names = self.names()
            raise NotFound(
                f"there is no context {name!r}",
                remedy=did_you_mean(name, names) + "List them with: dtf context ls",
            )
        return path


def check_settings(table: Table, base: Path, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings of a file's table, read; an unknown key or a bad value raises its error."""
    table.only([*SETTINGS, *extra])
    return {key: read_setting(table, key, base) for key in table.values if key in SETTINGS}


def read_setting(table: Table, key: str, base: Path) -> Any:
    """One setting, read. Secrets are not repeated in the complaint."""
    setting, value = SETTINGS[key], table.values[key]
    try:
        return setting.read(value, base)
    except ValueError as wanted:
        got = "something else" if setting.secret else shown(value)
        raise table.complaint(key, f"needs {wanted}, got {got}") from None


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _readable_by_others(path: Path) -> bool:
    return os.name == "posix" and bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _write_private(path: Path, text: str) -> None:
    """The file holds `text`, whole, mode 0600, even when it was there before with another mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{random_id()}")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(file, "w", encoding="utf-8") as stream:
            stream.write(text)
        fresh.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
