"""A run while it goes on: fits the line, needs no colour, one line a while in logs."""

from __future__ import annotations

import pytest
from dtf.tui.progress import Progress, picture, plain_line


def progress(**changes: object) -> Progress:
    values: dict[str, object] = {
        "name": "tiny-zoo",
        "run": "abcdefghijklmnopqrstuvwxyz",
        "size": 200,
        "counts": {"passed": 96, "failed": 3, "fallback": 1},
        "running": 2,
        "elapsed_s": 12.0,
        "rate": 10.0,
        "at_work": [("parity[model=basic-pitch,batch=4,backend=openvino]", "box-1", 4.2)],
    }
    return Progress(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("plain", [False, True])
def test_no_line_is_longer_than_the_terminal(width: int, plain: bool) -> None:
    lines = picture(progress(), width, plain=plain)
    assert [line.cell_len <= width for line in lines] == [True] * len(lines)
    assert all(line.plain.isascii() for line in lines) or not plain


def test_the_picture_says_how_far_it_is() -> None:
    head, bar, counts, task = (line.plain for line in picture(progress(), 100, plain=False))
    assert head == "tiny-zoo  abcdefghij"
    assert bar == "━" * 30 + "─" * 30 + "  50 %  12 s, about 10 s left"
    assert counts == "✔ 96 passed  ✘ 3 failed  ⚠ 1 fallback  ▶ 2 running  ◌ 98 queued  10.0/s"
    assert task == "  ▶ parity[model=basic-pitch,batch=4,backend=openvino]  box-1  4 s"


def test_a_narrow_line_keeps_the_numbers() -> None:
    counts = picture(progress(), 40, plain=False)[2].plain
    assert counts == "✔ 96  ✘ 3  ⚠ 1  ▶ 2  ◌ 98"


def test_without_a_rate_nothing_is_promised() -> None:
    bar = picture(progress(rate=None), 100, plain=False)[1].plain
    assert "left" not in bar


def test_a_run_of_nothing_has_a_picture() -> None:
    lines = picture(progress(size=0, counts={}, running=0, at_work=[]), 80, plain=True)
    assert "0 %" in lines[1].plain


def test_logs_get_one_line() -> None:
    assert plain_line(progress()) == (
        "12 s: 100 of 200 tasks done (96 passed, 3 failed, 1 fallback, 2 running)"
    )
    assert plain_line(progress(cancelling=True, size=1, counts={}, running=0)) == (
        "12 s: 0 of 1 task done"
    )
