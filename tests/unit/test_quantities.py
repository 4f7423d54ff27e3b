"""Durations, sizes and placeholders are read in one way, and what is shown reads back."""

from __future__ import annotations

from decimal import Decimal

import pytest
from dtf.core.placeholders import fill_in, placeholders
from dtf.core.quantities import duration_ms, show_bytes, show_ms, size_bytes
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("5min", 300_000),
        ("1h30m", 5_400_000),
        ("1h 30m 5s", 5_405_000),
        ("2d", 172_800_000),
        ("1.5h", 5_400_000),
        ("0.1ms", 1),
        ("0s", 0),
        (90, 90_000),
        (0.25, 250),
        (0.1, 100),
    ],
)
def test_durations(text: object, value: int) -> None:
    assert duration_ms(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5 apples",
        "m",
        "-5s",
        "1h30",
        True,
        None,
        [],
        -1,
        float("inf"),
        "1e3s",
        "9" * 20 + "d",
    ],
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        duration_ms(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (5, 5),
        ("5", 5),
        ("5B", 5),
        ("64M", 64 << 20),
        ("64MiB", 64 << 20),
        ("4g", 4 << 30),
        ("1.5GiB", 3 << 29),
        ("10kB", 10_000),
        ("2 TB", 2 * 10**12),
        ("0.1k", 103),
    ],
)
def test_sizes(text: object, value: int) -> None:
    assert size_bytes(text) == value


@pytest.mark.parametrize(
    "text", ["", "M", "4X", "-4", "4 M B", 1.5, True, None, -1, "1e9", "99999T"]
)
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        size_bytes(text)


@given(st.integers(0, 2**40))
def test_a_shown_duration_reads_back_the_same(value: int) -> None:
    assert duration_ms(show_ms(value)) == value


@given(st.decimals(0, 10**6, places=3), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_durations_are_exact_and_rounded_up(amount: Decimal, unit: str) -> None:
    factor = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[unit]
    if amount * factor > 2**40:
        return
    assert duration_ms(f"{amount}{unit}") - 1 < amount * factor <= duration_ms(f"{amount}{unit}")


@given(st.integers(0, 2**53))
def test_a_shown_size_is_about_the_size(value: int) -> None:
    number, unit = show_bytes(value).split()
    assert abs(size_bytes(f"{number}{unit}") - value) <= value * 0.06


def test_placeholders_are_names_in_braces() -> None:
    text = 'a {model} {{literal}} {"json": {n}} {} {1} ${HOME} {a b}'
    assert placeholders(text) == ["model", "n", "HOME"]
    params = {"model": "m x", "n": [1, 2.5, True], "HOME": None}
    assert fill_in(text, params) == 'a m x {literal} {"json": [1,2.5,true]} {} {1} $null {a b}'
    with pytest.raises(KeyError, match="model"):
        fill_in(text, {})


@given(st.text())
def test_text_without_placeholders_is_itself(text: str) -> None:
    if not placeholders(text) and "{{" not in text:
        assert fill_in(text, {}) == text
