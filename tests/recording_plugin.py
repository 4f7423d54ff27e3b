"""A pytest plugin that writes what a worker would report of this very run, in the runner's words.

For tests of the client: `-p recording_plugin`, with the file named by RECORDING.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from dtf.worker.runners.pytest.cases import CaseKey, case_line, collect_line
from dtf.worker.runners.pytest.wire import digest_of


class Recording:
    def __init__(self, config: Any, path: str) -> None:
        self.config, self.path = config, path
        self.lines: list[bytes] = []
        self.reports: list[Any] = []
        self.warnings: list[dict[str, Any]] = []

    def pytest_collectreport(self, report: Any) -> None:
        if report.outcome != "passed":
            self.lines.append(collect_line(self.config, report.nodeid, report, [])[0])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        files: dict[str, list[str]] = {}
        for item in session.items:
            files.setdefault(item.nodeid.partition("::")[0], []).append(item.nodeid)
        for file, ids in files.items():
            seen = {"file": file, "selected": len(ids), "deselected": 0, "digest": digest_of(ids)}
            self.lines.append(json.dumps({"collected": seen | {"ids": ids}}).encode())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        self.reports = []
        result = yield
        line, _ = case_line(self.config, CaseKey(item, item.nodeid), self.reports, self.warnings)
        self.lines.append(line)
        self.warnings = []
        return result

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.reports.append(report)

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str) -> None:
        if when == "runtest":
            self.warnings.append(
                {
                    "message": str(warning_message.message),
                    "category": warning_message.category.__name__,
                    "filename": warning_message.filename,
                    "lineno": warning_message.lineno,
                    "when": when,
                    "nodeid": nodeid,
                }
            )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        with open(self.path, "wb") as file:
            file.writelines(line.rstrip() + b"\n" for line in self.lines)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recording(config, os.environ["RECORDING"]))
