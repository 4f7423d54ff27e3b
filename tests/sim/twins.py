"""What is put in the place of the outside world, once a process. Rule: nothing that decides is
replaced; randomness, threads, `/proc` and processes are.
"""

from __future__ import annotations

import logging
import random
from types import SimpleNamespace

import dtf.coordinator.service as service
import dtf.core.ids as ids
import dtf.worker.agent as agent
import dtf.worker.heartbeat as heartbeat

from .loop import NODE
from .workers import Hands, InlineHands, NoBundles, NoProcesses
from .workload import facts_of

_nobody = random.Random(0)


def _token_bytes(number: int) -> bytes:
    life = NODE.get()
    return (life.rng if life is not None else _nobody).randbytes(number)


def install() -> None:
    """From here on this process simulates."""
    ids.secrets = SimpleNamespace(token_bytes=_token_bytes)  # type: ignore[assignment]
    service.gc = SimpleNamespace(freeze=lambda: None, unfreeze=lambda: None)  # type: ignore[assignment]
    agent.Workshop = Hands  # type: ignore[misc,assignment]
    agent.InlineWork = InlineHands  # type: ignore[misc,assignment]
    agent.Processes = NoProcesses  # type: ignore[misc,assignment]
    agent.BundleCache = NoBundles  # type: ignore[misc,assignment]

    def detect(*, ask_drivers: bool = True) -> object:
        life = NODE.get()
        assert life is not None
        return facts_of(life.name)

    agent.detect = detect  # type: ignore[assignment]
    heartbeat.machine_ticks = lambda: None
    heartbeat.memory_in_use = lambda: None
    heartbeat.os = SimpleNamespace(getloadavg=lambda: (0.0, 0.0, 0.0))  # type: ignore[assignment]
    logging.disable(logging.CRITICAL)
