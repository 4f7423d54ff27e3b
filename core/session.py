"""What the command line has agreed on before a command runs. Rule: one session for one process.

The root command parses the options that are the same everywhere (format, colour, server) and sets
the session; commands of any room take it from `current()` and never parse those options again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .client import Client
    from .config import Config

Format = Literal["table", "json", "jsonl", "csv", "md"]
FORMATS: tuple[Format, ...] = ("table", "json", "jsonl", "csv", "md")
PoolOpener = Callable[..., "AbstractAsyncContextManager[Client]"]


@dataclass(kw_only=True)
class Session:
    """The options common to all commands, and how to reach a pool."""

    format: Format = "table"
    quiet: bool = False
    """No narration on stderr; errors are still said."""
    progress: bool = True
    color: Literal["auto", "always", "never"] = "auto"
    verbose: int = 0
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Configuration given on the command line, by configuration key."""
    open_pool: PoolOpener | None = None
    """Opens the configured pool or starts the local one; set by the root."""
    _config: Config | None = None

    @property
    def config(self) -> Config:
        """The configuration, loaded on first use. Raises `InvalidConfig`."""
        if self._config is None:
            from .config import load_config

            self._config = load_config(self.flags)
        return self._config

    def open_log(self) -> AbstractAsyncContextManager[Client]:
        """A client that reads logs and blobs: of the pool where one runs, else of its server
        alone, started for that and changing nothing.
        """
        from .client import open_client

        if self.open_pool is None:
            return open_client(self.config)
        return self.open_pool(reading=True)

    @property
    def machine(self) -> bool:
        """Whether stdout is read by a program rather than by a person."""
        return self.format != "table"


_current: ContextVar[Session | None] = ContextVar("dtf_session", default=None)


def current() -> Session:
    """The session of this process; a plain one where no command line set it (libraries, tests)."""
    session = _current.get()
    if session is None:
        session = Session()
        _current.set(session)
    return session


def set_session(session: Session) -> None:
    """From now on `current()` gives `session`."""
    _current.set(session)
