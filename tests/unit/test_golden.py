"""Logs recorded by earlier versions fold for ever, to the same judgements and the same state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dtf.core import events as e
from dtf.core.fold import Fold
from dtf.core.state import digest
from golden.record import read

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LOGS = sorted(GOLDEN.glob("v*/*.jsonl"))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recorded_log_folds_to_what_it_folded_to(path: Path) -> None:
    expected = json.loads(path.with_suffix(".expected.json").read_text(encoding="utf-8"))
    fold = Fold("main")
    judgements = []
    for message in read(path):
        judged = fold.apply(message)
        judgements.append(list(judged.voids[: len(judged.events)]))
    pool = fold.pool
    assert judgements == expected["judgements"]
    assert pool.voids == expected["voids"]
    assert {name: run.settled for name, run in pool.runs.items()} == expected["runs"]
    assert (pool.sequence, pool.term) == (expected["sequence"], expected["term"])
    assert digest(pool) == expected["digest"]


def test_the_recorded_day_has_every_kind_of_event() -> None:
    """And each of them counts at least once."""
    fold = Fold("main")
    counted = set()
    for message in read(GOLDEN / "v1" / "day.jsonl"):
        judged = fold.apply(message)
        pairs = zip(judged.events, judged.voids, strict=False)
        counted |= {type(event) for event, void in pairs if not void}
    assert counted == {kind for kinds in e.WRITERS.values() for kind in kinds}
