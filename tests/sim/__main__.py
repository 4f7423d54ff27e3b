"""`make sim` and `make mutants`. Rule: exit 0 means that every promise held, every rare state was
reached, and every mutant was caught.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from . import campaign, twins
from .hunt import hunt_all
from .story import explain, live, make_plan


def main() -> int:
    """Simulate; see `--help`."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # one seed is one story on every machine
        os.execve(
            sys.executable,
            [sys.executable, "-W", "ignore", "-m", "dtf.tests.sim", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    parser = argparse.ArgumentParser(prog="python -m dtf.tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many worlds (500)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="one world only; when it breaks: its short story")
    parser.add_argument("--jobs", type=int, help="processes (one a core)")
    parser.add_argument("--mutants", action="store_true", help="hunt the catalogue of mutations")
    parser.add_argument("--only", default="", help="mutants whose rule or name holds this text")
    options = parser.parse_args()
    if options.mutants:
        return hunt_all(options.only, options.seeds, options.jobs)
    if options.seed is not None:
        return _one(options.seed)
    return _campaign(range(options.first, options.first + options.seeds), options.jobs)


def _one(seed: int) -> int:
    twins.install()
    outcome = live(make_plan(seed))[1]
    if not outcome.rule:
        print(
            f"seed {seed}: every promise held: {outcome.step} messages, {outcome.virtual_s:.0f} s"
        )
        return 0
    print(explain(seed))
    return 1


def _campaign(seeds: range, jobs: int | None) -> int:
    began, sometimes = time.monotonic(), Counter[str]()
    broken: list[campaign.Outcome] = []
    messages, virtual_s = 0, 0.0
    for outcome in campaign.run_seeds(seeds, jobs):
        sometimes += outcome.sometimes
        messages += outcome.step
        virtual_s += outcome.virtual_s
        if outcome.rule:
            broken.append(outcome)
            print(
                f"seed {outcome.seed}, message {outcome.step}: {outcome.detail[:300]}", flush=True
            )
    for state, times in sorted(sometimes.items(), key=lambda entry: entry[1]):
        print(f"{times:>8}  {state}")
    took = time.monotonic() - began
    print(f"{len(seeds)} worlds, {messages} messages, {virtual_s / 3600:.1f} h in {took:.0f} s")
    if broken:
        first = min(broken)
        print(f"{len(broken)} of them broke a promise. The first, shrunk:\n")
        twins.install()
        print(explain(first.seed))
        print(f"\nAgain: python -m dtf.tests.sim --seed {first.seed}")
        return 1
    missing = campaign.unseen(sometimes) if len(seeds) >= campaign.CAMPAIGN else []
    for state in missing:
        print(f"never reached: {state}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
