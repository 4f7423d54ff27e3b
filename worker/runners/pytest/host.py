"""What a prepared process knows. Rule: one session for the life of the process and of its clones;
everything in it is plain data or pytest's.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from .collecting import Collection
from .recorder import Recorder
from .surroundings import Environment, Streams, own_basetemp


class End(pytest.Item):
    """Stands for the next case when a shard ends but its session does not: of all that is set up,
    only what belongs to the session is still needed.
    """

    def runtest(self) -> None:
        """Never called."""

    def reportinfo(self) -> tuple[str, None, str]:
        return "", None, self.name


class Host:
    """A session that waits for shards. `problem` is why there is none."""

    def __init__(self, problem: str = "", exit_code: int = 0) -> None:
        self.problem = problem
        self.exit_code = exit_code
        self.directory = os.getcwd()
        self.environment = Environment()
        self.streams = Streams()
        self.recorder = Recorder()
        self.config: Any = None
        self.session: Any = None
        self.end: Any = None
        self.collection: Any = None
        self.maxfail = 0
        self.last: Any = None
        self._pid = 0

    def started(self, config: Any, session: Any) -> None:
        self.config, self.session = config, session
        self.collection = Collection(session, self.recorder)
        self.end = End.from_parent(session, name="end of shard")
        self.maxfail = getattr(config.option, "maxfail", 0)
        self.streams.remember(config)

    def wake(self, name: str) -> None:
        """This process, perhaps a clone by now, is ready for pytest to work in it."""
        self.environment.apply()
        if os.path.isdir(self.directory):
            os.chdir(self.directory)
        if self.config is None:
            return
        self.recorder.pid = os.getpid()
        self.streams.renew(self.config)
        if self._pid != os.getpid():
            self._pid = os.getpid()
            if name:
                own_basetemp(self.config, name)

    def expect(self, stop_after: int | None) -> None:
        """A new shard: nothing has failed yet, nothing asks to stop."""
        session = self.session
        session.testsfailed = 0
        for name in ("shouldstop", "shouldfail"):
            setattr(session, f"_{name}" if hasattr(session, f"_{name}") else name, False)
        if hasattr(self.config.option, "maxfail"):
            self.config.option.maxfail = self.maxfail if stop_after is None else int(stop_after)
        self.recorder.take_warnings()
