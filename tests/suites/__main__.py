"""`make suites`: every suite of the table under plain pytest and `pytest --dtf`, case by case.

Rule: exit 0 means that no case differs. `--plain` runs plain pytest twice instead, which shows
whether a suite is fit for the table.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from . import fetch
from .local_pool import local_pool
from .outcomes import Outcome, differences, run_pytest
from .table import Suite, by_name
from .thousands import many_cases

Runs = tuple[Outcome, Outcome]


def run_both(suite: Suite, work: Path, pool: dict[str, str], options: tuple[str, ...]) -> Runs:
    """The suite under plain pytest, then with `options` added, each on a fresh tree."""
    found = []
    for more, env in (((), {}), (options, pool)):
        tree = fetch.fresh_tree(suite, work / suite.name)
        variables = fetch.environment(suite, tree) | env
        words = (*suite.words, *more)
        found.append(run_pytest(tree, words, variables, work / f"{suite.name}-{len(found)}.xml"))
        (work / f"{suite.name}-{len(found)}.log").write_text(found[-1].out)
    return found[0], found[1]


def show(name: str, runs: Runs, told: list[str]) -> None:
    """One line of the table, and what differs below it."""
    plain, other = runs
    counts = " ".join(f"{number} {word}" for word, number in plain.totals.items())
    cells = [name.ljust(18), f"{plain.number:>7}", f"{plain.seconds:>7.1f} s"]
    cells += [f"{other.seconds:>7.1f} s", f"{other.seconds / plain.seconds:>6.2f}x"]
    print(*cells, "DIFFERS" if told else "same   ", counts, flush=True)
    for line in told:
        print(f"    {line}", flush=True)


def main() -> int:
    """Compare the named suites, all by default; 1 when anything differs."""
    parser = argparse.ArgumentParser(prog="make suites", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="suite")
    parser.add_argument("--plain", action="store_true", help="plain pytest twice")
    parser.add_argument("--fetch-kept", action="store_true", help="only fetch what tests need")
    parser.add_argument("--cases", type=int, default=50_000, help="of the generated suite (50000)")
    options = parser.parse_args()
    if options.fetch_kept:
        fetch.fetch_kept()
        return 0
    suites, bad, total = by_name(options.names), [], 0
    more = () if options.plain else ("--dtf",)
    print("suite".ljust(18), "  cases", "   plain", "      other", "  ratio")
    work = Path(tempfile.mkdtemp(prefix="dtf-suites-"))
    with nullcontext({}) if options.plain else local_pool(work / "pool") as pool:
        for suite in suites:
            runs = run_both(suite, work, pool, more)
            told = differences(*runs)
            if runs[0].number != suite.cases:
                told.append(f"the table says {suite.cases} cases, plain pytest {runs[0].number}")
            show(suite.name, runs, told)
            total += runs[0].number
            bad += [suite.name] if told else []
        if not options.names:
            runs = many_cases(work / "many", options.cases, pool, more)
            told = differences(*runs)
            show(f"{options.cases} cases", runs, told)
            bad += ["generated"] if told else []
    if bad:
        print(f"what each run printed lies in {work}")
    else:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{len(suites)} packages, {total} cases; different: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
