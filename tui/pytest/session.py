"""The pytest session of `--dtf`: files are found here, tests run on the pool, hooks are fed here.

Rule: light until tests run; the pool is connected to by a thread while pytest starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from .conftests import spare
from .link import Link, Place, Work
from .options import demand_possible, read_wishes, wanted, worker_args

if TYPE_CHECKING:
    from .discovery import Found
    from .feeding import Feeding


def begin(config: pytest.Config, args: Sequence[str]) -> None:
    """This pytest run goes to the pool, unless its options are about this process alone.

    `args` is the whole effective command line. Raises `pytest.UsageError`.
    """
    if not wanted(config.known_args_namespace):
        return
    demand_possible(config.known_args_namespace, args)
    wishes = read_wishes(config)
    spare(config.pluginmanager)
    link = Link(wishes, Place(config.invocation_params.dir, config.rootpath))
    config.pluginmanager.register(Session(config, link, list(args)), "dtf-session")
    link.start()


class Session:
    """The plugin that takes the place of collection and of the run loop."""

    def __init__(self, config: pytest.Config, link: Link, args: list[str]) -> None:
        self.config, self.link, self.args = config, link, args
        self.found: Found | None = None
        self.feeding: Feeding | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Find files; the pool gets them at once."""
        from .discovery import discover

        terminal: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.report_collect = _say_nothing  # how many cases there are is not known yet
        try:
            self.found = discover(session)
        finally:
            if terminal is not None:
                del terminal.report_collect
        files, lastfailed = self._choose(self.found.files)
        self.found = self.found._replace(files=files)
        if files:
            self.link.work.set_result(self._work(self.found, lastfailed))
        return True

    def _work(self, found: Found, lastfailed: list[str]) -> Work:
        option = self.config.option
        actions = self.config._parser.optparser._option_string_actions
        return Work(
            files=found.files,
            selected=found.selected,
            args=worker_args(self.args, actions, self.config),
            lastfailed=lastfailed,
            stop_after=int(option.maxfail or 0),
            live=option.capture == "no",
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Feed pytest's hooks until every case is told."""
        if session.testsfailed and not self.config.option.continue_on_collection_errors:
            noun = "error" if session.testsfailed == 1 else "errors"
            raise session.Interrupted(f"{session.testsfailed} {noun} during collection")
        if self.found is None or not self.found.files:
            return True
        from .feeding import Feeding

        self.feeding = Feeding(session, self.link, self.found)
        self.feeding.run()
        return True

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """What only dtf knows of the run."""
        if self.feeding is not None:
            from .remarks import write_remarks

            write_remarks(terminalreporter, self.feeding.remarks, self.link)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        self.link.close()

    # -- last failures and new files -------------------------------------------------------------
    def _choose(self, files: list[str]) -> tuple[list[str], list[str]]:
        """(the files in the order asked for, the node ids that --lf leaves)."""
        option = self.config.option
        if getattr(option, "newfirst", False):
            files = self._new_first(files)
        if not (getattr(option, "lf", False) or getattr(option, "failedfirst", False)):
            return files, []
        plugin: Any = self.config.pluginmanager.get_plugin("lfplugin")
        failed = [str(each) for each in plugin.lastfailed] if plugin is not None else []
        known = {each.partition("::")[0] for each in failed}
        mine = [each for each in files if each in known]
        if not mine:
            if failed:
                told = f"{len(failed)} known failures not in selected tests"
            else:
                told = "no previously failed tests, not deselecting items."
            none = not failed and option.last_failed_no_failures == "none"
            self._say_last(plugin, "no previously failed tests, deselecting all items."
                           if none else told)  # fmt: skip
            return ([] if none else files), []
        within = [each for each in failed if each.partition("::")[0] in set(mine)]
        noun = "failure" if len(within) == 1 else "failures"
        if option.lf:
            left = len(files) - len(mine)
            skipped = f" (skipped {left} file{'s' * (left != 1)})" if left else ""
            self._say_last(plugin, f"rerun previous {len(within)} {noun}{skipped}")
            return mine, within
        self._say_last(plugin, f"rerun previous {len(within)} {noun} first")
        return [*mine, *(each for each in files if each not in known)], []

    def _new_first(self, files: list[str]) -> list[str]:
        """Files without any case in the cache come first, the newest of them before the others."""
        plugin: Any = self.config.pluginmanager.get_plugin("nfplugin")
        known = {each.path for each in plugin.cached_nodeids} if plugin is not None else set()
        root = self.config.rootpath

        def age(file: str) -> float:
            return -(root / file).stat().st_mtime

        new = sorted((each for each in files if each not in known), key=age)
        return [*new, *sorted((each for each in files if each in known), key=age)]

    def _say_last(self, plugin: Any, text: str) -> None:
        terminal: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if plugin is not None:
            plugin._report_status = text
        if terminal is not None and self.config.get_verbosity() >= 0:
            terminal.write_line(f"run-last-failure: {text}")


def _say_nothing(final: bool = False) -> None:
    """Stands for the line "collected 7 items" while nobody knows how many there are."""
