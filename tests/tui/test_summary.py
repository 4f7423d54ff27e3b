"""The end of a run: readable at every width, without colour, in ASCII; whole for programs."""

from __future__ import annotations

import msgspec
import pytest
from dtf.core.exit_codes import ExitCode
from dtf.tui.machine import record_text
from dtf.tui.matrix import Seen
from dtf.tui.outcome import Failure, Outcome
from dtf.tui.summary import exit_code, outcome_record, show_summary
from screens import console, shown

MODELS = ("magika", "silero-vad", "basic-pitch")


def outcome(**changes: object) -> Outcome:
    states = {("basic-pitch", 4, "openvino"): "failed", ("basic-pitch", 1, "openvino"): "fallback"}
    seen = [
        Seen(
            "parity",
            {"model": model, "batch": batch, "backend": backend},
            "cpu",
            states.get((model, batch, backend), "passed"),
            1234.5 * batch,
        )
        for model in MODELS
        for batch in (1, 4)
        for backend in ("onnxruntime", "openvino")
    ]
    failures = [
        Failure(
            "parity-11",
            "parity[model=basic-pitch,batch=4,backend=openvino]",
            "failed",
            "test",
            "AssertionError: max-abs 0.01",
            "loading\nAssertionError: max-abs 0.01\n",
            "box-1",
            2,
        ),
        Failure("parity-9", "parity[model=basic-pitch,batch=1,backend=openvino]", "fallback"),
    ]
    values: dict[str, object] = {
        "run": "abcdefghijklmnopqrstuvwxyz",
        "name": "tiny-zoo",
        "state": "settled",
        "verdict": "failed",
        "counts": {"passed": 10, "failed": 1, "fallback": 1},
        "size": 12,
        "wall_us": 12.4e6,
        "seen": seen,
        "failures": failures,
    }
    return Outcome(**(values | changes))  # type: ignore[arg-type]


def summary(width: int, encoding: str = "utf-8") -> str:
    screen = console(width, encoding=encoding)
    show_summary(screen, outcome())
    return shown(screen)


def test_the_summary_as_people_see_it() -> None:
    assert summary(80) == (
        "test    model        batch  onnxruntime  openvino\n"
        "───────────────────────────────────────────────────\n"
        "parity  magika       1      ✔ 1.23 ms    ✔ 1.23 ms\n"
        "parity  magika       4      ✔ 4.94 ms    ✔ 4.94 ms\n"
        "parity  silero-vad   1      ✔ 1.23 ms    ✔ 1.23 ms\n"
        "parity  silero-vad   4      ✔ 4.94 ms    ✔ 4.94 ms\n"
        "parity  basic-pitch  1      ✔ 1.23 ms    ⚠ fallback\n"
        "parity  basic-pitch  4      ✔ 4.94 ms    ✘ failed\n"
        "\n"
        "✔ passed  ✘ failed  ⚠ fallback  time: p50 latency\n"
        "\n"
        "✘ failed  parity[model=basic-pitch,batch=4,backend=openvino]"
        "  abcdefghij/parity-11  on box-1  attempt 2\n"
        "    loading\n"
        "    AssertionError: max-abs 0.01\n"
        "⚠ fallback  parity[model=basic-pitch,batch=1,backend=openvino]  abcdefghij/parity-9\n"
        "\n"
        "✘ failed  10 passed, 1 failed, 1 fallback of 12 tasks in 12.4 s  run abcdefghij"
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_matrix_fits_the_terminal(width: int) -> None:
    matrix = summary(width).split("\n\n")[0]
    assert all(len(line) <= width for line in matrix.splitlines())
    assert matrix.count("parity") == 6
    assert "failed" in matrix
    assert "fallback" in matrix


def test_a_narrow_terminal_keeps_marks_and_latencies() -> None:
    matrix = summary(44).split("\n\n")[0]
    assert all(len(line) <= 44 for line in matrix.splitlines()[:-1])
    assert "✘" in matrix


def test_without_unicode_everything_is_ascii() -> None:
    text = summary(80, encoding="ascii")
    assert text.isascii()
    assert "F failed" in text
    assert "! fallback" in text
    assert "P 1.23 ms" in text


def test_no_colour_means_no_escape_sequences() -> None:
    assert "\x1b" not in summary(80)
    screen = console(80, color=True)
    show_summary(screen, outcome())
    assert "\x1b[1;31m✘ failed" in shown(screen)


def test_many_failures_are_counted_not_listed() -> None:
    many = [Failure(f"t-{n}", f"t[{n}]", "failed") for n in range(50)]
    screen = console()
    show_summary(screen, outcome(failures=many, counts={"failed": 2000}, size=2000, seen=[]))
    assert "and 1,990 more" in shown(screen)
    assert shown(screen).count("✘ failed  t[") == 10


def test_what_only_lacks_something_is_incomplete_not_failed() -> None:
    screen = console()
    show_summary(screen, outcome(counts={"passed": 11, "no_capacity": 1}, failures=[], seen=[]))
    assert shown(screen).strip().startswith("⚠ incomplete  11 passed, 1 no capacity of 12 tasks")


def test_programs_get_the_whole_outcome() -> None:
    told = msgspec.json.decode(record_text(outcome_record(outcome()), "json"))
    assert told["schema"] == "dtf.run/1"
    assert told["run"] == "abcdefghijklmnopqrstuvwxyz"
    assert told["counts"] == {"passed": 10, "failed": 1, "fallback": 1}
    assert told["exit_code"] == 1
    assert len(told["matrix"]) == 12
    assert told["matrix"][0] == {
        "row": {"test": "parity", "model": "magika", "batch": "1"},
        "column": "onnxruntime",
        "counts": {"passed": 1},
        "latency_us": 1234.5,
    }
    assert told["failures"][0]["tail"].endswith("max-abs 0.01\n")
    assert len(record_text(outcome_record(outcome()), "jsonl").splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ExitCode.FAILED),
        ({"counts": {"passed": 12}}, ExitCode.PASSED),
        ({"counts": {"passed": 11, "fallback": 1}}, ExitCode.INCOMPLETE),
        ({"verdict": "rejected", "counts": {}}, ExitCode.USAGE),
        ({"counts": {}, "size": 0}, ExitCode.EMPTY),
    ],
)
def test_the_exit_code_says_how_it_ended(changes: dict[str, object], code: ExitCode) -> None:
    assert exit_code(outcome(**changes)) is code
