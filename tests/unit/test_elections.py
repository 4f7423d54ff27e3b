"""Readers that do not fold the log know who led at any point of it, as the fold does."""

from __future__ import annotations

import pytest
from dtf.core import events as e
from dtf.core.codec import encode_batch
from dtf.core.elections import ElectionHistory, Elections
from dtf.core.errors import FoldVersionError
from dtf.core.fold import Fold
from dtf.core.ports import Message
from hypothesis import given
from hypothesis import strategies as st

LEADER = "dtf.main.leader"
FORGED = {"Nats-Sequence": "1"}


def claim(term: int, version: int = 1) -> bytes:
    elected = e.LeaderElected(term=term, coordinator="c", nonce="n", fold_version=version)
    return encode_batch([elected])


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 1), st.booleans(), st.booleans()), max_size=20
    ),
    st.data(),
)
def test_the_history_agrees_with_the_fold(claims, data) -> None:
    fold = Fold("main")
    created = encode_batch([e.PoolCreated(uuid="u", name="main")])
    messages = [Message(1, "dtf.main.pool", created)]
    terms = {1: 0}
    for sequence, (term, version, forged, stranger) in enumerate(claims, start=2):
        subject = "dtf.main.worker.w" if stranger else LEADER
        headers = FORGED if forged else None
        messages.append(Message(sequence, subject, claim(term, version), 0, headers))
    for message in messages:
        terms[message.sequence] = fold.pool.term
        fold.apply(message)
    last = len(messages)
    terms[last + 1] = fold.pool.term
    history = ElectionHistory(LEADER)
    cut = data.draw(st.integers(0, last))
    history.feed(messages[:cut], cut)
    history.feed(messages, last)
    assert {s: history.before(s).term for s in terms} == terms


def test_of_a_log_without_its_beginning_the_first_election_is_believed() -> None:
    history = ElectionHistory(LEADER, whole=False)
    assert history.before(1).term is None
    history.feed([Message(70, LEADER, claim(9)), Message(80, LEADER, claim(5))], 90)
    assert [history.before(s).term for s in (70, 71, 91)] == [None, 9, 9]


def test_rulings_of_older_terms_do_not_count() -> None:
    assert Elections().allow(0)
    assert Elections(3).allow(3)
    assert not Elections(3).allow(2)


def test_a_newer_fold_is_told() -> None:
    history = ElectionHistory(LEADER)
    with pytest.raises(FoldVersionError) as caught:
        history.feed([Message(2, LEADER, claim(1, e.FOLD_VERSION + 1))], 2)
    assert "Upgrade" in caught.value.remedy
