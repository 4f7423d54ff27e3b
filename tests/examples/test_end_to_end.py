"""Examples through `dtf run`: server, coordinator, projector and workers as a user starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import EXAMPLES, load


def run(suite: str, tmp_path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit status of `dtf run` and what it said about the run."""
    line = [sys.executable, "-m", "dtf", "run", str(EXAMPLES / suite), "--json", *options]
    done = subprocess.run(
        [*line, "--data-dir", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, told


def test_the_smallest_suite_passes(tmp_path: Path) -> None:
    status, told = run("hello/hello.toml", tmp_path)
    assert status == 0
    assert told["verdict"] == "passed"
    assert told["counts"] == {"passed": 5}
    timed = [cell for cell in told["matrix"] if cell["row"].get("test") == "sort"]
    assert all(cell["latency_us"] > 0 for cell in timed)


def test_a_silent_fallback_is_not_green_unless_allowed(tmp_path: Path) -> None:
    load("tiny-zoo", "zoo")
    status, told = run("tiny-zoo/fallback.toml", tmp_path)
    assert status != 0
    assert told["counts"] == {"passed": 1, "fallback": 1}
    (failure,) = told["failures"]
    assert failure["label"].startswith("told")
    assert failure["cause"] == "fallback"
    assert failure["message"].startswith(
        "asked for CUDAExecutionProvider, ran on CPUExecutionProvider"
    )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_slice_of_the_demo_is_green(tmp_path: Path, precision: str) -> None:
    load("tiny-zoo", "zoo")
    options = ["--model", "model=ocr-direction", "--model", f"precision={precision}"]
    status, told = run("demo.toml", tmp_path, *options)
    assert status == 0, told["failures"]
    assert told["counts"] == {"passed": 2}
    assert {cell["row"]["batch"] for cell in told["matrix"]} == {"1", "4"}


def test_thousands_of_tests_are_one_submission(tmp_path: Path) -> None:
    load("onnx-ops", "ops")
    cases = ["case=add/*,cast/test_cast_FLOAT*,quantizelinear/*"]
    status, told = run("onnx-ops/cases.toml", tmp_path, "--model", *cases)
    assert status == 0
    assert told["counts"]["passed"] > 20
    assert told["counts"]["skipped"] > 10, "known failures are skipped, never passed"
