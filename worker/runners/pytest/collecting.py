"""Files become cases. Rule: each file is collected once and kept, as pytest would find it walking
the directories, and the folders above it are the same nodes for all files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import collect_one_node

from .markers import wrong_markers
from .recorder import Recorder
from .wire import digest_of, wire_id

_SCANNING = tuple(
    kind for kind in (getattr(pytest, "Dir", None), getattr(pytest, "Package", None)) if kind
)
"""Directory collectors that only list their entries: no need to look at those nobody asked for."""


class CollectedFile:
    """The cases of one file in the order pytest gave them, and what else came out of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.items: list[Any] = []
        self.ids: list[str] = []
        self.failures: list[Any] = []
        self.warnings: list[dict[str, Any]] = []
        self.deselected = 0
        self.problem = ""
        self.scoped: bool | None = None
        """Whether fixtures are shared in it; None until somebody asked."""
        self._digest = ""

    def digest(self) -> str:
        if not self._digest:
            self._digest = digest_of(self.ids)
        return self._digest


class Collection:
    """All that a session has collected so far."""

    def __init__(self, session: Any, recorder: Recorder) -> None:
        self.session = session
        self.recorder = recorder
        self.files: dict[str, CollectedFile] = {}
        self._children: dict[tuple[Any, Path], list[Any]] = {}
        self._roots: dict[Path, Any] = {}
        self._broken: dict[Any, Any] = {}
        self._ignored: set[Path] = set()
        self._wanted: list[Path] = []
        self._current: CollectedFile | None = None
        session.perform_collect = self._perform

    def get(self, paths: list[tuple[str, bool]]) -> None:
        """Every (path relative to rootdir, named by the user himself) is collected.

        Raises what ends plain pytest: KeyboardInterrupt, pytest.exit, SystemExit, UsageError; the
        file in question is then not collected.
        """
        missing = [(path, given) for path, given in paths if path not in self.files]
        if not missing:
            return
        config = self.session.config
        self._wanted = [self._absolute(path) for path, _ in missing]
        named = {self._absolute(path) for path, given in missing if given}
        self._announce(set(self._wanted), named)
        before = getattr(config.option, "maxfail", 0)
        if before:
            config.option.maxfail = 0  # the stop is the runner's decision, not the collection's
        try:
            for path, _ in missing:
                self._collect(path)
        finally:
            if before:
                config.option.maxfail = before

    def _collect(self, path: str) -> None:
        recorder, session = self.recorder, self.session
        recorder.collect_failures, recorder.deselected = [], 0
        recorder.take_warnings()
        self._current = found = CollectedFile(path)
        session.config.hook.pytest_collection(session=session)
        found.failures = recorder.collect_failures
        found.deselected = recorder.deselected
        found.warnings = recorder.take_warnings()
        found.ids = [wire_id(item.nodeid) for item in found.items]
        self.files[path] = found

    def _absolute(self, path: str) -> Path:
        return Path(os.path.normpath(self.session.config.rootpath / path))

    def _announce(self, files: set[Path], named: set[Path]) -> None:
        """pytest treats a path that was named, and all folders above any, unlike one it met."""
        session = self.session
        root = session.config.rootpath
        named |= {path for path in files if not path.is_relative_to(root)}
        session._initialpaths = frozenset(session._initialpaths) | named
        above = {parent for path in files for parent in path.parents}
        known: frozenset[Path] = getattr(session, "_initialpaths_with_parents", frozenset())
        session._initialpaths_with_parents = frozenset(known) | named | above

    def _perform(self, args: Any = None, genitems: bool = True) -> list[Any]:
        """Stands in for `Session.perform_collect`: the current file, with the hooks around it."""
        session, found = self.session, self._current
        if found is None:
            return list(session.items)
        everything: list[Any] = session.items
        items: list[Any] = []
        # Hooks go through all items of the session each time: give them those of this file.
        session.items = items
        try:
            path = self._absolute(found.path)
            if not path.is_file():
                found.problem = f"no file {found.path!r} below {session.config.rootpath}"
            else:
                for node in self._nodes_of(path):
                    items.extend(session.genitems(node))
            if wrong := wrong_markers(found.path, items):
                self.recorder.collect_failures.append(wrong)
                items.clear()
            hook = session.config.hook
            hook.pytest_collection_modifyitems(session=session, config=session.config, items=items)
            session.testscollected = len(everything) + len(items)
            hook.pytest_collection_finish(session=session)
            found.items = list(session.items)
        finally:
            session.items = everything
        everything.extend(found.items)
        session.testscollected = len(everything)
        return found.items

    def _nodes_of(self, path: Path) -> list[Any]:
        nodes = self._descend(path)
        if not nodes and path not in self._ignored and not self.recorder.collect_failures:
            # Only somebody who named it can have meant a file that no pattern matches.
            self._announce(set(), {path})
            for key in [key for key in self._children if key[1] == path]:
                del self._children[key]
            self._roots.pop(path, None)
            nodes = self._descend(path)
        return nodes

    def _descend(self, path: Path) -> list[Any]:
        session = self.session
        chain = [path]
        for parent in path.parents:
            if not session.config.pluginmanager._is_in_confcutdir(parent):
                break
            chain.insert(0, parent)
        nodes = list(session._collect_path(chain[0], self._roots))
        for child in chain[1:]:
            nodes = [below for node in nodes for below in self._below(node, child)]
        return nodes

    def _below(self, node: Any, path: Path) -> list[Any]:
        """The collectors of `path` in the folder `node`."""
        if node in self._broken:
            self.recorder.collect_failures.append(self._broken[node])
            return []
        if (node, path) not in self._children:
            self._open(node, path)
        return self._children.get((node, path), [])

    def _open(self, node: Any, path: Path) -> None:
        """Looks into a folder for `path` and for what else is wanted there."""
        wanted = dict.fromkeys([path])
        for other in self._wanted:
            if other.parent == node.path and (node, other) not in self._children:
                wanted[other] = None
        if type(node) in _SCANNING:
            node.collect = lambda: self._entries(node, list(wanted))
        try:
            report = collect_one_node(node)
        finally:
            node.__dict__.pop("collect", None)
        node.ihook.pytest_collectreport(report=report)
        for entry in wanted:
            self._children[node, entry] = []
        if not report.passed:
            self._broken[node] = report
            return
        for found in report.result:
            self._children.setdefault((node, found.path), []).append(found)

    def _entries(self, node: Any, paths: list[Path]) -> list[Any]:
        """As `Dir.collect` and `Package.collect`, for these entries alone."""
        session, ihook = self.session, node.ihook
        found: list[Any] = []
        for path in paths:
            if path.is_dir():
                folder = ihook.pytest_collect_directory(path=path, parent=node)
                found.extend([] if folder is None else [folder])
            elif not session.isinitpath(path) and ihook.pytest_ignore_collect(
                collection_path=path, config=session.config
            ):
                self._ignored.add(path)
            else:
                found.extend(ihook.pytest_collect_file(file_path=path, parent=node))
        return found
