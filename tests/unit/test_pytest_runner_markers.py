"""What a case asks for by its markers: told to the client, never passed over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from dtf.worker.runners.pytest.markers import needs_of, wants_a_process


def item(*markers: dict[str, object]) -> SimpleNamespace:
    """A case with these markers, the closest first."""
    found = [SimpleNamespace(args=(), kwargs=words) for words in markers]
    return SimpleNamespace(
        iter_markers=lambda name: iter(found),
        get_closest_marker=lambda name: found[0] if found else None,
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4G", 4 * 10**9),
        ("64Mi", 2**26),
        ("1.5 GiB", 3 * 2**29),
        ("100", 100),
        (7, 7),
        ("2kB", 2000),
    ],
)
def test_sizes_are_read_as_they_are_written(text: object, size: int) -> None:
    assert needs_of(item({"memory": text})) == ("", size)


def test_the_closest_marker_wins_word_by_word() -> None:
    case = item({"hardware": "cuda"}, {"hardware": "cpu", "memory": "1M", "isolation": "case"})
    assert needs_of(case) == ("cuda", 10**6)
    assert wants_a_process(case)


def test_a_case_without_markers_asks_for_nothing() -> None:
    assert needs_of(item()) == ("", 0)
    assert not wants_a_process(item())
