"""Subjects: built from names, and read back as who wrote about what (protocol F5, F14)."""

from __future__ import annotations

import pytest
from dtf.core.errors import InvalidName
from dtf.core.events import WRITERS
from dtf.core.subjects import Subject, Subjects

MAIN = Subjects("main")


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        (MAIN.run("me", "r1"), Subject("run", "me", "r1")),
        (MAIN.attempt("w1", "r1"), Subject("attempt", "w1", "r1")),
        (MAIN.assign("cuda", "w1"), Subject("assign", "w1", "")),
        (MAIN.to_worker("w1"), Subject("assign", "w1", "")),
        (MAIN.worker("w1"), Subject("worker", "w1", "")),
        (MAIN.ruling("r1"), Subject("ruling", "", "r1")),
        (MAIN.pool_rulings, Subject("pool", "", "")),
        (MAIN.leader, Subject("leader", "", "")),
    ],
)
def test_what_is_built_is_read_back(text: str, subject: Subject) -> None:
    assert MAIN.parse(text) == subject
    assert MAIN.parse(text) == subject  # remembered
    assert subject.kind in WRITERS
    assert Subjects("other").parse(text) is None


def test_remembered_subjects_are_bounded() -> None:
    subjects = Subjects("main")
    for number in range(20_000):
        assert subjects.parse(f"dtf.main.ruling.r{number}") == Subject("ruling", "", f"r{number}")
        assert subjects.parse(f"dtf.main.nothing.r{number}") is None
    assert len(subjects._known) <= 4096


@pytest.mark.parametrize("pool", ["", "a.b", "a b", "*", "a\n"])
def test_f14_a_pool_has_a_name(pool: str) -> None:
    with pytest.raises(InvalidName, match="pool"):
        Subjects(pool)


def test_the_stream_takes_every_subject_the_fold_knows() -> None:
    prefixes = {each.removeprefix(MAIN.prefix).removesuffix(".>") for each in MAIN.log_subjects}
    assert prefixes == set(WRITERS) | {"act"}
