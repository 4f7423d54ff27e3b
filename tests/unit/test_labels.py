"""One name for a task, wherever people meet it."""

from __future__ import annotations

import pytest
from dtf.core.events import TasksSubmitted
from dtf.core.labels import decode_params, group_task_label, task_label
from dtf.core.model import ABSENT, Axis, TaskSpec
from msgspec import Raw

SPEC = TaskSpec(command=["true"])


@pytest.mark.parametrize(
    ("params", "size", "label"),
    [
        ({}, 1, "t"),
        ({}, 9, "t[3]"),
        ({"model": "a", "batch": 4}, 9, "t[model=a,batch=4]"),
        ({"on": True, "f": 0.5, "l": [1, "x"]}, 1, 't[on=true,f=0.5,l=[1,"x"]]'),
        ({"p": "x" * 50}, 1, f"t[p={'x' * 37}...]"),
    ],
)
def test_labels(params: dict, size: int, label: str) -> None:
    assert task_label("t", params, 3, size) == label


def test_a_submitted_task_is_named_by_its_parameters() -> None:
    axes = [Axis(name="a", values=[Raw(b"1"), Raw(b'"x"')]), Axis(name="b", values=[Raw(b"2")])]
    group = TasksSubmitted(part=0, group="g", spec=SPEC, label="the g", axes=axes)
    assert group_task_label(group, 1) == "the g[a=x,b=2]"
    assert group_task_label(TasksSubmitted(part=0, group="g", spec=SPEC), 0) == "g"


@pytest.mark.parametrize("raw", [ABSENT, Raw(b"3"), Raw(b"{")])
def test_what_is_no_object_has_no_parameters(raw: Raw) -> None:
    assert decode_params(raw) == {}
