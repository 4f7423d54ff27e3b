"""Names and identities (protocol F14, S1, A1)."""

from __future__ import annotations

import pytest
from dtf.core.errors import InvalidName
from dtf.core.ids import (
    NAME_LENGTH_MAX,
    attempt_token,
    check_name,
    is_name,
    random_id,
    run_id,
    split_task_id,
    split_token,
    task_id,
    to_name,
)

GOOD = ["a", "A9", "0", "a-b_c", "a" * 64, "9-", "x_"]
BAD = ["", "_a", "-a", "a.b", "a b", "a*", ">", "a\n", "\na", "é", "a/b", "a" * 65, "a\0", "\u0663"]


@pytest.mark.parametrize("text", GOOD)
def test_f14_names_may_stand_in_a_subject(text: str) -> None:
    assert is_name(text)
    assert check_name(text, "run") == text
    assert to_name(text) == text


@pytest.mark.parametrize("text", BAD)
def test_f14_other_texts_are_refused_with_their_value(text: str) -> None:
    assert not is_name(text)
    with pytest.raises(InvalidName, match="worker"):
        check_name(text, "worker")
    assert is_name(to_name(text))


def test_two_texts_never_become_one_name() -> None:
    texts = [*BAD, "a.b", "a:b", "a b", "a  b", "x" * 99, "x" * 98, "\ud800", "ü", "ä"]
    names = {to_name(text) for text in set(texts)}
    assert len(names) == len(set(texts))
    assert all(len(name) <= NAME_LENGTH_MAX for name in names)


def test_s1_a_run_id_is_a_name_that_follows_from_publisher_and_key() -> None:
    assert run_id("me", "k") == run_id("me", "k") == "5eb4cyiut5qco74sgi7bo6umln"
    assert len({run_id("me", "k"), run_id("you", "k"), run_id("me", "l"), run_id("m", "e/k")}) == 4
    assert is_name(run_id("me", "any key: ü \n"))


@pytest.mark.parametrize("characters", [1, 8, 13, 26])
def test_random_ids_are_names_of_the_wanted_length(characters: int) -> None:
    made = {random_id(characters) for _ in range(20)}
    assert all(len(each) == characters and is_name(each) for each in made)
    assert characters < 8 or len(made) == 20


def test_a_task_id_splits_in_one_way_only() -> None:
    for group in ("g", "a-1", "a-1-2", "9", "a_"):
        for index in (0, 1, 10, 9_999_999):
            assert split_task_id(task_id(group, index)) == (group, index)


OTHERS = ["", "-", "g", "g-", "-1", "g-01", "g-+1", "g- 1", "g-1_0", "g-1.0", "g-x", "g-1 "]
OTHERS += ["g-\u0663", "g-\u00b2", "g-" + "9" * 5000 + "x"]


@pytest.mark.parametrize("text", OTHERS)
def test_other_texts_are_no_task_ids(text: str) -> None:
    assert split_task_id(text) is None


def test_a1_a_token_names_task_and_attempt() -> None:
    assert split_token(attempt_token("g-0", 3, 7, "x")) == ("g-0", 3)
    for text in ("", "g-0", "g-0.3.7", "g-0.x.7.n", "g-0.3.7.n.m", "g-0.\u0663.7.n"):
        assert split_token(text) is None
