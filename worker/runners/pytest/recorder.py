"""The plugin that hears what pytest does in a host. Rule: it listens last and changes nothing but
what pytest's own terminal would have changed.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

_MARKER = (
    "dtf(hardware, memory, isolation, retries, timeout, group): where and how the pool runs a case"
)


class Recorder:
    """Collects what one phase said; whoever starts a phase empties the lists first."""

    def __init__(self) -> None:
        self.config: Any = None
        self.pid = os.getpid()
        self.reports: list[Any] = []
        self.warnings: list[dict[str, Any]] = []
        self.collect_failures: list[Any] = []
        self.deselected = 0
        self._failed_subtests: Any = None

    def pytest_configure(self, config: Any) -> None:
        self.config = config
        config.addinivalue_line("markers", _MARKER)

    def count_subtests(self) -> None:
        """From here on, what failed subtests do to their case is known. Call after configure."""
        try:
            from _pytest.subtests import failed_subtests_key

            self._failed_subtests = self.config.stash.get(failed_subtests_key, None)
        except ImportError:  # pytest before 9
            self._failed_subtests = None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        if os.getpid() != self.pid:  # a child that a test forked came back into our loop
            os._exit(1 if report.outcome == "failed" else 0)
        if self._failed_subtests and report.when == "call" and report.outcome == "passed":
            # The terminal asks for the status of each report, and this is where a case whose
            # subtests failed becomes failed.
            self.config.hook.pytest_report_teststatus(report=report, config=self.config)
        self.reports.append(report)

    @pytest.hookimpl(trylast=True)
    def pytest_collectreport(self, report: Any) -> None:
        if not report.passed:
            self.collect_failures.append(report)

    def pytest_deselected(self, items: Any) -> None:
        self.deselected += len(items)

    def pytest_warning_recorded(
        self, warning_message: Any, when: str, nodeid: str, location: Any
    ) -> None:
        if when == "config":  # the client's own pytest tells these
            return
        self.warnings.append(
            {
                "message": str(warning_message.message),
                "category": _category(warning_message.category),
                "filename": str(warning_message.filename),
                "lineno": warning_message.lineno,
                "when": when,
                "nodeid": nodeid,
            }
        )

    def take_warnings(self) -> list[dict[str, Any]]:
        """The warnings since the last call."""
        taken = self.warnings
        if taken:
            self.warnings = []
        return taken


def _category(category: type[Warning] | None) -> str:
    if category is None:
        return "UserWarning"
    if category.__module__ in ("builtins", "__main__"):
        return category.__name__
    return f"{category.__module__}.{category.__qualname__}"
