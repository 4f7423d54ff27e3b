"""Widths of columns."""

from __future__ import annotations

from dtf.tui.fitting import GAP, LEAST, fit
from hypothesis import given
from hypothesis import strategies as st


def test_what_fits_is_left_alone() -> None:
    assert fit([10, 20], [True, False], 32) == [10, 20]


def test_the_widest_flexible_column_gives_way_first() -> None:
    assert fit([10, 40, 30], [False, True, True], 64) == [10, 25, 25]
    assert fit([10, 40, 30], [False, True, False], 64) == [10, 20, 30]


def test_others_give_way_only_when_that_is_not_enough() -> None:
    assert fit([30, 20], [False, True], 32) == [22, LEAST]


@given(
    st.lists(st.tuples(st.integers(1, 200), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 300),
)
def test_lines_fit_wherever_they_can(columns: list[tuple[int, bool]], room: int) -> None:
    widths = [width for width, _ in columns]
    fitted = fit(widths, [flag for _, flag in columns], room)
    pairs = zip(widths, fitted, strict=True)
    assert all(min(LEAST, before) <= after <= before for before, after in pairs)
    taken = sum(fitted) + GAP * (len(fitted) - 1)
    least = sum(min(LEAST, width) for width in widths) + GAP * (len(widths) - 1)
    assert taken <= max(room, least)
