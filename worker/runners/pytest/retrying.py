"""`@pytest.mark.dtf(retries=N)`. Rule: each try has its own fixtures, and only the last counts."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from .cases import judge, serialise
from .host import Host

RETRIES_MAX = 100


class Following(pytest.Item):
    """The next case as it turns out to be: the same one again as long as it fails, else the one
    that follows. pytest asks at the teardown, when the outcome of the call is known.
    """

    retry: Retry

    def runtest(self) -> None:
        """Never called."""

    def listchain(self) -> list[Any]:
        if self.retry.again():
            return super().listchain()
        following = self.retry.following
        return [] if following is None else list(following.listchain())


class Retry:
    """Runs one case until it passes, at most `retries` + 1 times."""

    def __init__(self, host: Host, item: Any, following: Any, retries: int) -> None:
        self.host = host
        self.item = item
        self.following = following
        self.left = min(retries, RETRIES_MAX)
        self.tries = 0
        self.earlier: list[dict[str, Any]] = []
        self._next = Following.from_parent(item.parent, name=item.name)
        self._next.retry = self

    def again(self) -> bool:
        """Whether the try that runs now has failed and will be followed by another."""
        return self.left > 0 and _failed(self.host.recorder.reports)

    def run(self) -> list[Any]:
        """The reports of the last try."""
        item, session, recorder = self.item, self.host.session, self.host.recorder
        option = self.host.config.option
        properties = list(item.user_properties)
        failed_before, limit = session.testsfailed, getattr(option, "maxfail", 0)
        while True:
            self.tries += 1
            recorder.reports = []
            if limit:
                option.maxfail = 0  # only the last try may stop the shard
            try:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=self._next)
            finally:
                if limit:
                    option.maxfail = limit
            if not self.again() or session.shouldfail or session.shouldstop:
                return list(recorder.reports)
            self.left -= 1
            session.testsfailed = failed_before
            failures = [r for r in recorder.reports if r.outcome == "failed"]
            self.earlier.extend(serialise(self.host.config, report) for report in failures)
            self._reset(properties)

    def _reset(self, properties: list[Any]) -> None:
        """Nothing of the failed try is left in the case, nor in what it shares with others."""
        item = self.item
        item._report_sections[:] = []
        item.user_properties[:] = properties
        if type(item) is pytest.Function and isinstance(item.parent, pytest.Class):
            item.__dict__.pop("_instance", None)  # each try has an instance of its own
            item.__dict__.pop("_obj", None)
        state = self.host.session._setupstate
        if any(error is not None for _, error in state.stack.values()):
            with contextlib.suppress(Exception):  # of what failed to set up; already reported
                state.teardown_exact(self.host.end)
        info = getattr(item, "_fixtureinfo", None)
        for definitions in getattr(info, "name2fixturedefs", {}).values():
            for definition in definitions:
                cached = getattr(definition, "cached_result", None)
                if cached is not None and cached[2] is not None:  # it failed, for all who ask
                    with contextlib.suppress(Exception):
                        definition.finish(SimpleNamespace(node=item))
                    definition.cached_result = None


def _failed(reports: list[Any]) -> bool:
    return judge(reports)[0] in ("failed", "error")
