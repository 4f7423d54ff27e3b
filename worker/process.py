"""A worker as a process. Rule: SIGTERM and Ctrl-C drain, a second one ends at once, and nothing
is left behind.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.adapters.nats_client import connect
from ..core.config import load_config
from ..core.errors import DtfError
from ..core.exit_codes import ExitCode, code_for_error
from ..core.loop import run_async
from .agent import Agent
from .options import WorkerOptions
from .waiting import PATIENCE_S, pool_there

if TYPE_CHECKING:
    from ..core.config import Config

PR_SET_PDEATHSIG = 1
GC_THRESHOLD = 50_000
"""Allocations between collections: what a task allocates is not cyclic."""
SWITCH_S = 0.001
"""How long the thread of in-process tasks may keep the interpreter from the event loop."""


def run_process(
    flags: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    patience_s: float = PATIENCE_S,
    with_parent: bool = False,
    json: bool = False,
    verbose: bool = False,
) -> int:
    """Run one agent in this process until it ends; the exit code. Raises `DtfError` when it
    cannot start.
    """
    log_to_stderr(json=json, verbose=verbose)
    if with_parent:
        end_with_parent()
    config = load_config(flags)
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(GC_THRESHOLD, 50, 100)
    code: int = run_async(serve(config, options, patience_s))
    if code == ExitCode.PASSED:
        return code
    logging.shutdown()
    return code


def said(error: DtfError) -> int:
    """The error is on stderr, one sentence with its remedy; the exit code for it."""
    remedy = f" {error.remedy}" if error.remedy else ""
    sys.stderr.write(f"error: {error}.{remedy}\n".replace("..", "."))
    return code_for_error(error)


async def serve(config: Config, options: Mapping[str, Any], patience_s: float = PATIENCE_S) -> int:
    """Connect and work until the agent ends. Raises `ServerUnavailable` when there is no pool."""
    all_options = WorkerOptions(
        **{"name": config.worker, "pool": config.pool, "data_dir": config.data_dir, **options}
    )
    connection = await connect(config.nats_options(f"dtf-worker.{all_options.name}"))
    try:
        await pool_there(connection, all_options.pool, patience_s)
        agent = Agent(connection, all_options)
        stop_on_signals(agent)
        gc.freeze()
        return await agent.run()
    finally:
        await connection.aclose()


def stop_on_signals(agent: Agent) -> None:
    """The first SIGTERM or SIGINT drains the agent, the second ends it at once."""
    heard: list[str] = []

    def on_signal(name: str) -> None:
        logging.getLogger("dtf.worker").info(
            "%s: %s", name, "stopping now" if heard else "draining (again to stop now)"
        )
        agent.stop(drain=not heard, reason=name)
        heard.append(name)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)


def end_with_parent() -> None:
    """SIGTERM reaches this process when its parent ends (Linux), or at once when it has ended
    already.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


class JsonLines(logging.Formatter):
    """A log record as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def log_to_stderr(*, json: bool, verbose: bool) -> None:
    """What the agent has to say goes to stderr, for people or as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines() if json else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    logging.getLogger("dtf.worker").setLevel(logging.INFO)
