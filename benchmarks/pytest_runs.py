"""W4: pytest suites on the pool, beside plain pytest and pytest-xdist in the same rounds.

Rule: every way runs once in each round, in turn, so that a slow minute of the machine hits all.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from . import pytest_suites as suites
from .figures import Figure, times
from .pytest_pool import KeptPool, Spent, cold, kept_pool, on_pool, plain, xdist

PEER = "plain pytest"


def _pairs(ours: list[Spent], theirs: list[Spent]) -> list[tuple[float, float]]:
    return [(a.seconds, b.seconds) for a, b in zip(ours, theirs, strict=True)]


def _cpu(ours: list[Spent], theirs: list[Spent]) -> list[tuple[float, float]]:
    return [(a.cpu_s, b.cpu_s) for a, b in zip(ours, theirs, strict=True)]


def beside(name: str, pairs: list[tuple[float, float]], peer: str, unit: str = "s") -> Figure:
    """A figure of somebody else, for comparison: no bar."""
    return Figure(
        name=name, value=statistics.median(a for a, _ in pairs), unit=unit,
        limit=statistics.median(b for _, b in pairs),
        ratio=statistics.median(a / b for a, b in pairs), peer=peer,
    )  # fmt: skip


async def measure_pytest(rounds: int) -> list[Figure]:
    """W4a to W4e of the issue."""
    with TemporaryDirectory(prefix="dtf-bench-") as scratch:
        base = Path(scratch)
        with kept_pool(base / "pool") as pool:
            figures = _trivial(base, pool, rounds)
            figures += _sleeps(base, pool, rounds)
            figures += _model(base, pool, rounds)
            figures += _single(base, pool, rounds)
    return figures


def _trivial(base: Path, pool: KeptPool, rounds: int) -> list[Figure]:
    """W4a: 2,000 tests that do nothing."""
    where, n = suites.trivial(base / "trivial"), 2000
    plain(where, n)
    on_pool(where, n, pool)
    bare, warm, fresh, peer = [], [], [], []
    for number in range(rounds):
        bare.append(plain(where, n))
        warm.append(on_pool(where, n, pool))
        peer.append(xdist(where, n))
        fresh.append(cold(where, n, base / f"cold-{number}"))
    name = "2,000 trivial tests"
    return [
        times(f"{name}, warm pool", _pairs(warm, bare), "s", PEER, 0.8, aim=0.55, lower=True),
        times(f"{name}, cold", _pairs(fresh, bare), "s", PEER, 1.3, aim=0.9, lower=True),
        beside(f"{name}, xdist -n2 worksteal", _pairs(peer, bare), PEER),
        times(f"{name}, CPU, warm pool", _cpu(warm, bare), "CPU s", PEER, 1.3, lower=True),
        beside(f"{name}, CPU, xdist", _cpu(peer, bare), PEER, "CPU s"),
    ]


def _sleeps(base: Path, pool: KeptPool, rounds: int) -> list[Figure]:
    """W4b: 100 tests that sleep; the bound is half of their sum.

    A directory that is new has no history; one that was run before has.
    """
    blind, known, peer, fast = [], [], [], []
    start = suites.single(base / "start")
    for number in range(rounds):
        where = suites.sleeping(base / f"sleeps-{number}")
        blind.append(on_pool(where, 100, pool))
        known.append(on_pool(where, 100, pool))
        peer.append(xdist(where, 100))
        fast.append(plain(start, 1))
    bound = f"half of the sum of {suites.SLEEPS_S:.2f} s"
    half = [Spent(suites.SLEEPS_S / 2, 1.0)] * rounds
    began = statistics.median(spent.seconds for spent in fast)
    note = f"{bound}; plain pytest's own start is {began:.2f} s of it"
    return [
        times(
            "100 sleeps, with history", _pairs(known, half), "s", note, 1.03, aim=1.02, lower=True
        ),
        times("100 sleeps, no history", _pairs(blind, half), "s", note, 1.10, aim=1.06, lower=True),
        beside("100 sleeps, xdist -n2 worksteal", _pairs(peer, half), bound),
    ]


def _model(base: Path, pool: KeptPool, rounds: int) -> list[Figure]:
    """W4c: the conftest imports numpy and onnxruntime and loads a model; runs after the first."""
    where = suites.with_model(base / "model")
    plain(where, 10)
    on_pool(where, 10, pool)
    bare, warm, peer = [], [], []
    for _ in range(rounds):
        bare.append(plain(where, 10))
        warm.append(on_pool(where, 10, pool))
        peer.append(xdist(where, 10))
    return [
        times("onnxruntime conftest, second run", _pairs(warm, bare), "s", PEER, 0.5, lower=True),
        times("onnxruntime conftest, CPU", _cpu(warm, bare), "CPU s", PEER, 1.3, lower=True),
        beside("onnxruntime conftest, xdist", _pairs(peer, bare), PEER),
    ]


def _single(base: Path, pool: KeptPool, rounds: int) -> list[Figure]:
    """W4e: one test, the whole command."""
    where = suites.single(base / "single")
    bare, warm, peer = [], [], []
    for _ in range(2 * rounds):
        bare.append(plain(where, 1))
        warm.append(on_pool(where, 1, pool))
        peer.append(xdist(where, 1))
    return [
        beside("one test, the whole command", _pairs(warm, bare), PEER),
        beside("one test, xdist", _pairs(peer, bare), PEER),
    ]
