"""Numbers as people read them."""

from __future__ import annotations

import pytest
from dtf.tui import formats


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (None, "-"),
        (0, "0 µs"),
        (38.4, "38 µs"),
        (999.4, "999 µs"),
        (999.6, "1.00 ms"),
        (1_234, "1.23 ms"),
        (12_345, "12.3 ms"),
        (123_456, "123 ms"),
        (999_600, "1.00 s"),
        (1_240_000, "1.24 s"),
        (59_940_000, "59.9 s"),
        (59_960_000, "1 m 00 s"),
        (125_000_000, "2 m 05 s"),
        (3_725_000_000, "1 h 02 m"),
        (100_000_000_000, "1 d 03 h"),
    ],
)
def test_durations_have_three_digits_and_one_unit(us: float | None, text: str) -> None:
    assert formats.duration(us) == text


def test_durations_have_an_ascii_twin() -> None:
    assert formats.duration(5, ascii_only=True) == "5 us"


def test_ages_never_go_below_zero() -> None:
    assert formats.ago(2_000_000_000, 1_000_000_000) == "0 s ago"
    assert formats.ago(1_000_000_000, 62_000_000_000) == "1 m ago"
    assert formats.ago(1_000_000_000, 8_000 * 10**9) == "2 h ago"
    assert formats.ago(None, 1) == "-"


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1.5 * 2**30, "1.50 GiB")],
)
def test_sizes_are_binary(count: float | None, text: str) -> None:
    assert formats.size(count) == text


def test_numbers_and_nouns() -> None:
    assert formats.number(20000) == "20,000"
    assert formats.number(0.99834) == "0.9983"
    assert formats.plural(1, "task") == "1 task"
    assert formats.plural(20_000, "task") == "20,000 tasks"
    assert formats.cores(1500) == "1.5"


def test_run_ids_are_shortened_and_nothing_else_is() -> None:
    assert formats.short_run("abcdefghijklmnopqrstuvwxyz") == "abcdefghij"
    assert formats.short_run("load-0") == "load-0"
    assert formats.shorten("abcdef", 4) == "abc…"
    assert formats.shorten("abcd", 4) == "abcd"
