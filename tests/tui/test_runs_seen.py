"""From a followed run to what is shown, and to the run that repeats it."""

from __future__ import annotations

import pytest
from dtf.core.errors import NotFound
from dtf.core.events import RangeSettled
from dtf.core.model import Axis, Cause, TaskSpec, Verdict
from dtf.core.submit import GroupPlan, json_items
from dtf.tui.outcome import outcome_of_view
from dtf.tui.progress import ProgressView
from dtf.tui.repeat import repeat_submission
from dtf.tui.summary import show_summary
from msgspec import Raw
from run_story import SUBJECTS, Story
from screens import console, shown

SPEC = TaskSpec(command=["true"])
AXES = [
    Axis(name="model", values=[Raw(b'"a"'), Raw(b'"b"')]),
    Axis(name="batch", values=[Raw(b"1"), Raw(b"4")]),
]
MATRIX = GroupPlan(name="parity", label="parity", spec=SPEC, axes=AXES)
PLAIN = GroupPlan(name="load", label="load", spec=SPEC, count=3)


def finished() -> Story:
    story = Story(MATRIX, PLAIN)
    story.end("parity-0", Verdict.PASSED, latency_ms=2.5)
    story.end("parity-1", Verdict.FAILED, message="wrong", tail="first\nlast\n")
    story.end("parity-2", Verdict.PASSED, latency_ms=3.5)
    story.end("parity-3", Verdict.SKIPPED)
    for index in range(3):
        story.end(f"load-{index}", Verdict.PASSED if index else Verdict.FALLBACK)
    story.settle("failed")
    return story


def test_the_outcome_of_a_followed_run() -> None:
    outcome = outcome_of_view(finished().view)
    assert (outcome.state, outcome.verdict, outcome.size) == ("settled", "failed", 7)
    assert outcome.counts == {"passed": 4, "failed": 1, "skipped": 1, "fallback": 1}
    assert [f.task for f in outcome.failures] == ["parity-1", "load-0"]
    assert outcome.failures[0].label == "parity[model=a,batch=4]"
    assert outcome.seen[0].params == {"model": "a", "batch": 1}
    assert [each.latency_us for each in outcome.seen[:4]] == [2500.0, None, 3500.0, None]
    screen = console(100)
    show_summary(screen, outcome)
    text = shown(screen)
    assert "parity  a      ✔ 2.50 ms  ✘ failed" in text
    assert "load  ✔ 2 ⚠ 1" in text
    assert "    wrong\n    first\n    last" in text


def test_tasks_settled_by_the_range_tell_their_story_once() -> None:
    story = Story(GroupPlan(name="gpu", label="gpu", spec=SPEC, count=1000))
    story.tell(
        SUBJECTS.ruling(story.run),
        RangeSettled(
            term=1, group="gpu", start=0, stop=1000, verdict=Verdict.NO_CAPACITY,
            cause=Cause.NO_CAPACITY, message="no worker serves cuda",
        ),
    )  # fmt: skip
    outcome = outcome_of_view(story.settle("incomplete"))
    assert outcome.counts == {"no_capacity": 1000}
    (failure,) = outcome.failures
    assert failure.label == "gpu[0] and 999 more like it"
    assert failure.message == "no worker serves cuda"


def test_only_what_did_not_pass_is_repeated() -> None:
    view = finished().view
    again = repeat_submission(view, publisher="me")
    assert again is not None
    assert again.retry_of == view.run
    assert again.tasks == 2
    parity, load = again.groups
    assert parity.items is not None
    assert bytes(parity.items[0]) == b'{"model":"a","batch":4}'
    assert (load.name, load.count, load.spec) == ("load", 1, SPEC)


def test_all_of_a_run_can_be_repeated_and_one_task_of_it() -> None:
    view = finished().view
    everything = repeat_submission(view, publisher="me", failed=False)
    assert everything is not None
    assert everything.tasks == 7
    one = repeat_submission(view, publisher="me", task="parity-2", failed=False)
    assert one is not None
    assert one.tasks == 1
    with pytest.raises(NotFound, match="no task 'parity-9'"):
        repeat_submission(view, publisher="me", task="parity-9")


def test_a_run_that_passed_has_nothing_to_repeat() -> None:
    story = Story(GroupPlan(name="one", spec=SPEC, items=json_items([{"a": 1}])))
    story.end("one-0", Verdict.PASSED)
    assert repeat_submission(story.settle("passed"), publisher="me") is None


def test_a_log_gets_failures_as_they_come_and_a_line_a_while() -> None:
    story = Story(PLAIN, keep_cases=False)
    screen = console(100)
    with ProgressView(screen, wanted=True, started_s=0.0) as progress:
        progress.update(story.view, 5.0)
        assert shown(screen) == ""
        story.end("load-0", Verdict.FAILED, message="wrong\nsecond line")
        story.start("load-1")
        progress.update(story.view, 11.0)
        progress.update(story.view, 12.0)
    assert shown(screen).splitlines() == [
        "✘ load[0]  failed  wrong",
        "11 s: 1 of 3 tasks done (1 failed, 1 running)",
    ]


def test_a_terminal_shows_what_runs_and_for_how_long() -> None:
    story = Story(PLAIN, keep_cases=False)
    story.start("load-1", "box-7")
    screen = console(100, color=True)
    with ProgressView(screen, wanted=True, started_s=0.0, live=True) as view:
        view.update(story.view, 1.0)
        at_work = view.progress(story.view, 4.0).at_work
    assert at_work == [("load[1]", "box-7", 3.0)]
    assert "load[1]" in shown(screen)


def test_forced_colour_makes_no_terminal_of_a_pipe() -> None:
    screen = console(100, color=True)
    with ProgressView(screen, wanted=True, started_s=0.0) as view:
        view.update(finished().view, 11.0)
    assert "\x1b[1A" not in shown(screen)
    assert "7 of 7 tasks done" in shown(screen)


def test_nothing_is_shown_when_it_is_not_wanted() -> None:
    screen = console()
    with ProgressView(screen, wanted=False, started_s=0.0) as view:
        view.update(finished().view, 100.0)
    assert shown(screen) == ""
