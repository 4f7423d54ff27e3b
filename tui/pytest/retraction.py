"""Results taken back after the fact. Rule: when a file cannot be collected, plain pytest runs no
test; whatever was shown until then does not count.
"""

from __future__ import annotations

from typing import Any

import pytest


def retract_tests(config: pytest.Config, session: pytest.Session, errors: int) -> None:
    """Terminal summary, JUnit file and counts hold what collection said, and nothing else."""
    session.testsfailed = errors
    session._shouldfail = False
    session.testscollected = 0
    terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        for category, reports in list(terminal.stats.items()):
            kept = [each for each in reports if not _is_of_test(each)]
            terminal.stats[category] = kept
            if not kept:
                del terminal.stats[category]
        terminal._progress_nodeids_reported.clear()
        terminal._set_main_color()
    _retract_junit(config)


def _is_of_test(report: object) -> bool:
    return getattr(report, "when", None) in ("setup", "call", "teardown")


def _retract_junit(config: pytest.Config) -> None:
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    if xml is None:
        return
    kept = [each for each in xml.node_reporters_ordered if "::" not in str(each.id)]
    xml.node_reporters_ordered[:] = kept
    for key in [key for key, each in xml.node_reporters.items() if each not in kept]:
        del xml.node_reporters[key]
    xml.stats.update(passed=0, failure=0, skipped=0)
