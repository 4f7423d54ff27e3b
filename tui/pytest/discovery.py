"""Which files hold tests. Rule: pytest finds them, by its own rules; nothing of them is imported.

Every collector of a file, whoever made it, is replaced by a stand-in that only knows its name.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from _pytest.main import resolve_collection_argument


class Found(NamedTuple):
    """What the command line names: files in order (as in node ids), and the node ids of those that
    are asked for in part.
    """

    files: list[str]
    selected: dict[str, list[str]]


class StandIn(pytest.File):
    """A file that may hold tests."""

    def collect(self) -> Iterator[Any]:
        """Nothing: what is in the file is the workers' business. Being asked means being found."""
        found = self.session.stash[_FOUND]
        found.setdefault(self.nodeid, self.path)
        return iter(())


_FOUND = pytest.StashKey[dict[str, Path]]()


class _Discovery:
    """The plugin that puts stand-ins in the place of files while files are looked for."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> Generator[None, list[Any], list[Any]]:
        made = yield
        return [StandIn.from_parent(parent, path=file_path)] if made else []

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> Any:
        return StandIn.from_parent(parent, path=module_path)


def discover(session: pytest.Session) -> Found:
    """The files plain pytest would collect. Raises `pytest.UsageError` as pytest does."""
    config = session.config
    whole, partly = _split_arguments(config)
    session.stash[_FOUND] = {}
    plugin = _Discovery()
    config.pluginmanager.register(plugin, "dtf-discovery")
    try:
        session.perform_collect([*whole, *dict.fromkeys(file for file, _ in partly)])
    finally:
        config.pluginmanager.unregister(plugin)
    found = session.stash[_FOUND]
    by_path = {path: file for file, path in found.items()}
    covered = _covered(config, whole)
    selected: dict[str, list[str]] = {}
    for argument, rest in partly:
        path = _path(config, argument)
        file = by_path.get(path)
        if file is not None and not any(path == each or each in path.parents for each in covered):
            selected.setdefault(file, []).append(f"{file}::{rest}")
    return Found(list(found), selected)


def _split_arguments(config: pytest.Config) -> tuple[list[str], list[tuple[str, str]]]:
    """(arguments that name files and directories, (file, rest) of those that name nodes)."""
    whole: list[str] = []
    partly: list[tuple[str, str]] = []
    for argument in config.args:
        base, bracket, params = argument.partition("[")
        file, nodes, rest = base.partition("::")
        if nodes:
            partly.append((file, rest + bracket + params))
        else:
            whole.append(argument)
    return whole, partly


def _path(config: pytest.Config, argument: str) -> Path:
    here = config.invocation_params.dir
    return resolve_collection_argument(
        here,
        argument,
        0,
        as_pypath=config.option.pyargs,
        consider_namespace_packages=config.getini("consider_namespace_packages"),
    ).path


def _covered(config: pytest.Config, whole: Sequence[str]) -> list[Path]:
    """The paths that are asked for as a whole."""
    return [_path(config, each) for each in whole]
