"""What a submission becomes: one message when it fits, and nothing the fold would refuse."""

from __future__ import annotations

import msgspec
import pytest
from dtf.core.codec import MESSAGE_BYTES_MAX, encode_batch
from dtf.core.errors import InvalidName, InvalidSubmission
from dtf.core.events import PoolCreated, RunSealed, RunSubmitted, TasksSubmitted
from dtf.core.fold import Fold
from dtf.core.ids import run_id
from dtf.core.model import Axis, TaskSpec
from dtf.core.ports import Message
from dtf.core.submit import (
    EVENT_BYTES_MAX,
    GroupPlan,
    Submission,
    json_items,
    submission_messages,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

SPEC = TaskSpec(command=["/bin/true"])


def submission(*groups: GroupPlan, **fields) -> Submission:
    return Submission(publisher="me", key="k", groups=list(groups), **fields)


def refusal(*groups: GroupPlan, **fields) -> str:
    with pytest.raises(InvalidSubmission) as caught:
        submission_messages(submission(*groups, **fields))
    return f"{caught.value} {caught.value.remedy}"


def folded(messages, pool: str = "main") -> Fold:
    fold = Fold(pool)
    fold.apply(Message(1, f"dtf.{pool}.pool", encode_batch([PoolCreated(uuid="u", name=pool)])))
    for sequence, (subject, events) in enumerate(messages, start=2):
        judged = fold.apply(Message(sequence, subject, encode_batch(events)))
        assert not any(judged.voids), judged.voids
    return fold


def test_a_run_is_one_message() -> None:
    run, messages = submission_messages(
        submission(
            GroupPlan(name="a", spec=SPEC),
            GroupPlan(name="b", spec=SPEC, count=100_000),
            name="nightly",
            priority=3,
            labels={"team": "vision"},
        ),
        pool="lab",
    )
    assert run == run_id("me", "k")
    [(subject, events)] = messages
    assert subject == f"dtf.lab.run.me.{run}"
    assert [type(event) for event in events] == [
        RunSubmitted,
        TasksSubmitted,
        TasksSubmitted,
        RunSealed,
    ]
    state = folded(messages, "lab").pool.runs[run]
    assert (state.closed, state.size) == (True, 100_001)


def test_the_same_submission_gives_the_same_bytes() -> None:
    def encoded() -> list[bytes]:
        items = json_items({"i": i} for i in range(10))
        plan = GroupPlan(name="a", spec=SPEC, items=items)
        _, messages = submission_messages(submission(plan))
        return [encode_batch(events) for _, events in messages]

    assert encoded() == encoded()


def test_no_groups_make_an_empty_run() -> None:
    _, messages = submission_messages(submission())
    assert folded(messages).pool.runs[run_id("me", "k")].closed


def test_a_long_list_keeps_its_order_over_several_messages() -> None:
    items = json_items({"i": i, "text": "x" * 20} for i in range(100_000))
    plan = GroupPlan(name="grid", spec=SPEC, items=items, label="the grid")
    run, messages = submission_messages(submission(plan))
    sizes = [len(encode_batch(events)) for _, events in messages]
    assert len(sizes) > 1
    assert max(sizes) <= EVENT_BYTES_MAX
    groups = folded(messages).pool.runs[run].groups
    assert list(groups) == ["grid", *(f"grid-p{n}" for n in range(2, len(groups) + 1))]
    sent = [bytes(item) for group in groups.values() for item in group.submitted.items]
    assert sent == [bytes(item) for item in items]
    assert {group.submitted.label for group in groups.values()} == {"the grid"}


def test_a_list_that_fits_into_one_message_stays_one_group() -> None:
    items = json_items({"i": i, "text": "x" * 50} for i in range(9_000))
    assert MESSAGE_BYTES_MAX < len(msgspec.json.encode(items)) < EVENT_BYTES_MAX
    run, messages = submission_messages(submission(GroupPlan(name="g", spec=SPEC, items=items)))
    assert list(folded(messages).pool.runs[run].groups) == ["g"]


def test_many_groups_are_packed_into_few_messages() -> None:
    spec = TaskSpec(command=["/bin/true", "x" * 2000])
    plans = [GroupPlan(name=f"g{n}", spec=spec) for n in range(500)]
    run, messages = submission_messages(submission(*plans))
    sizes = [len(encode_batch(events)) for _, events in messages]
    assert max(sizes) <= MESSAGE_BYTES_MAX
    assert len(sizes) <= 2 + sum(sizes) // MESSAGE_BYTES_MAX
    assert folded(messages).pool.runs[run].size == 500


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 300_000), min_size=1, max_size=12), st.integers(0, 600_000))
def test_items_of_any_size_land_whole_or_are_refused_by_name(lengths, spec_length) -> None:
    spec = TaskSpec(command=["x", "y" * spec_length])
    items = json_items({"t": "z" * length} for length in lengths)
    plan = GroupPlan(name="g", spec=spec, items=items)
    try:
        run, messages = submission_messages(submission(plan))
    except InvalidSubmission as problem:
        told = str(problem)
        assert "task 'g-" in told
        assert spec_length + max(lengths) > EVENT_BYTES_MAX - 10_000
        return
    groups = folded(messages).pool.runs[run].groups.values()
    assert [bytes(i) for g in groups for i in g.submitted.items] == [bytes(i) for i in items]
    assert all(len(encode_batch(events)) <= EVENT_BYTES_MAX + 100 for _, events in messages)


def test_what_cannot_be_sent_is_named() -> None:
    big = json_items([{"a": 1}, {"a": "x" * 1_000_000}])
    assert "'g-1'" in refusal(GroupPlan(name="g", spec=SPEC, items=big))
    loaded = TaskSpec(command=["x"], env={"A": "x" * 1_000_000})
    assert "'g' needs a message of" in refusal(GroupPlan(name="g", spec=loaded))
    assert "RunSubmitted" in refusal(labels={"a": "x" * 1_000_000})
    long = json_items({"t": "x" * 1000} for _ in range(2000))
    clash = GroupPlan(name="g-p2", spec=SPEC)
    assert "'g-p2'" in refusal(GroupPlan(name="g", spec=SPEC, items=long), clash)


@pytest.mark.parametrize(
    ("plan", "part"),
    [
        (GroupPlan(name="g", spec=TaskSpec()), "non-empty 'command'"),
        (GroupPlan(name="g" * 53, spec=SPEC), "longer than 52"),
        (GroupPlan(name="g", spec=SPEC, items=[]), "list of items is empty"),
        (GroupPlan(name="g", spec=SPEC, items=[Raw(b"3")]), "JSON object"),
        (GroupPlan(name="g", spec=SPEC, items=[Raw(b"{")]), "JSON object"),
        (GroupPlan(name="g", spec=SPEC, items=[Raw(b"{},{}")]), "item 0 must be one JSON object"),
        (GroupPlan(name="g", spec=SPEC, items=[Raw(b"{}")], count=2), "one of items"),
        (GroupPlan(name="g", spec=SPEC, count=10_000_001), "at most 10000000"),
        (GroupPlan(name="g", spec=SPEC, count=0), "TasksSubmitted 'g'"),
        (GroupPlan(name="g", spec=SPEC, axes=[Axis(name="a b", values=[Raw(b"1")])]), "regex"),
        (GroupPlan(name="g", spec=TaskSpec(command=["x"], retries=1000)), "retries"),
        (GroupPlan(name="g", spec=SPEC, label="x" * 257), "label"),
    ],
)
def test_what_the_fold_would_refuse_is_refused_before_it_is_sent(plan, part) -> None:
    assert part in refusal(plan)


def test_two_axes_of_one_name_are_refused() -> None:
    axes = [Axis(name="a", values=[Raw(b"1")])] * 2
    assert "same name" in refusal(GroupPlan(name="g", spec=SPEC, axes=axes))


def test_two_groups_of_one_name_are_refused() -> None:
    assert "another group" in refusal(
        GroupPlan(name="g", spec=SPEC), GroupPlan(name="g", spec=SPEC)
    )


def test_the_head_is_checked() -> None:
    assert "name of a run" in refusal(name="x" * 257)
    assert "101" in refusal(priority=101)
    with pytest.raises(InvalidSubmission, match="key"):
        submission_messages(Submission(publisher="me", key="", groups=[]))
    with pytest.raises(InvalidName, match="publisher"):
        submission_messages(Submission(publisher="a.b", key="k", groups=[]))
    with pytest.raises(InvalidName, match="run to retry"):
        submission_messages(submission(retry_of="a b"))


def test_items_that_are_no_json_are_refused() -> None:
    with pytest.raises(InvalidSubmission, match="JSON objects"):
        json_items([{"a": object()}])
