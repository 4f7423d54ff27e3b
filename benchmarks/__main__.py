"""`make bench`: measures every bar of the project, prints a table, writes
benchmarks/out/latest.json.

Rule: each figure stands beside a limit or a peer measured in the same run, because machines differ
and drift; quote ratios. Name parts to run only those: `make bench ARGS="queue loss"`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import platform
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from ..core.loop import loop_factory
from .figures import Figure

PARTS = {
    "tasks": "throughput:measure_tasks",
    "queue": "queue:measure_queue",
    "fold": "fold:measure_fold",
    "project": "project:measure_project",
    "loss": "loss:measure_loss",
    "log": "log:measure_log",
    "pytest": "pytest_runs:measure_pytest",
    "zygote": "zygote:measure_zygote",
}
OUT = Path(__file__).resolve().parent / "out" / "latest.json"


def show(figure: Figure) -> str:
    """One line of the table."""
    mark = {True: "met", False: "MISSED", None: ""}[figure.met]
    ratio = f"{figure.ratio:.2f}x" if figure.ratio is not None else ""
    limit = f"{figure.limit:,.2f}" if figure.limit is not None else ""
    bar = f"{figure.bar:g}" if figure.bar is not None else ""
    aim = f"{figure.aim:g}" if figure.aim is not None else ""
    value = f"{figure.value:,.3g}" if figure.value < 100 else f"{figure.value:,.0f}"
    cells = [figure.name.ljust(48), f"{value:>10} {figure.unit:<8}", f"{limit:>11}", f"{ratio:>8}"]
    cells += [f"{bar:>8}", f"{aim:>8}", f" {mark:<7}", figure.peer or figure.note]
    return " ".join(cells).rstrip()


async def measure(parts: list[str], rounds: int) -> list[Figure]:
    """The figures of the named parts, printed as they come."""
    figures: list[Figure] = []
    for part in parts:
        module, _, name = PARTS[part].partition(":")
        run: Callable[[int], Awaitable[list[Figure]]]
        run = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        for figure in await run(rounds):
            figures.append(figure)
            print(show(figure), flush=True)
    return figures


def main() -> int:
    """Run the benchmarks; 0 when every bar was met, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions (3)")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"{machine}; ratios are medians of {options.rounds} interleaved rounds", file=sys.stderr)
    head = ["figure".ljust(48), f"{'value':>10} {'':<8}", f"{'limit':>11}", f"{'ratio':>8}"]
    print(" ".join([*head, f"{'bar':>8}", f"{'aim':>8}", f" {'':<7}", "measured against"]))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        figures = runner.run(measure(options.parts or list(PARTS), options.rounds))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    missed = [figure.name for figure in figures if figure.met is False]
    print(f"\nwrote benchmarks/out/latest.json; missed: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
