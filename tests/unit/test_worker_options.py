"""Options of `dtf-worker run`: what is wrong is named with its remedy before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dtf.core.errors import InvalidConfig
from dtf.worker import commands as c


def test_labels_may_be_repeated_or_joined() -> None:
    assert c.labels(["a=1,b=2", "c=x=y"]) == {"a": "1", "b": "2", "c": "x=y"}


def test_a_declared_device_says_that_nobody_verified_it() -> None:
    device = c.declared_device("cuda:1")
    assert (device.id, device.hardware, device.index) == ("cuda:1", "cuda", 1)
    assert device.level == "declared"
    named = c.declared_device("qnn:npu0")
    assert (named.id, named.index) == ("npu0", None)


def test_cores_and_sizes_as_people_write_them(tmp_path: Path) -> None:
    assert c.milli(0.5) == 500
    assert c.milli(None) is None
    assert c.size("--memory", "2G") == 2 * 1024**3
    assert c.size("--memory", "1000") == 1000
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    assert c.secret(secret) == "hunter2"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: c.labels(["rack"]), "'rack'"),
        (lambda: c.labels(["=x"]), "'=x'"),
        (lambda: c.hardware_name("gpu"), "'gpu'"),
        (lambda: c.declared_device("cuda"), "'cuda'"),
        (lambda: c.declared_device("gpu:0"), "'gpu'"),
        (lambda: c.milli(0), "0"),
        (lambda: c.milli(-1), "-1"),
        (lambda: c.size("--memory", "lots"), "'lots'"),
        (lambda: c.secret(Path("/no/such/file")), "/no/such/file"),
        (lambda: c.worker_run(prefetch=5000), "5000"),
    ],
)
def test_what_is_wrong_is_named(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        call()
    assert words in str(caught.value)
