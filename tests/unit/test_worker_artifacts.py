"""Which files of a scratch directory are kept, and what is said of those that are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dtf.worker.artifacts import collect
from dtf.worker.scratch import ScratchArea, lock_file, remove_abandoned


def write(root: Path, **sizes: int) -> None:
    for name, size in sizes.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)


def test_files_are_found_once_and_in_order(tmp_path: Path) -> None:
    write(tmp_path, b=1, a=2, sub__c=3)
    found = collect(tmp_path, ["*", "**/*", "sub/c"], 100, 1000)
    assert [(a.path, a.bytes) for a in found.artifacts] == [("a", 2), ("b", 1), ("sub/c", 3)]
    assert found.notes == []


def test_limits_leave_out_and_say_so(tmp_path: Path) -> None:
    write(tmp_path, a=10, b=500, c=10)
    found = collect(tmp_path, ["*"], 100, 100)
    assert [a.path for a in found.artifacts] == ["a", "c"]
    assert "b left out" in found.notes[0]
    assert "100" in found.notes[0]
    few = collect(tmp_path, ["*"], 2, 10_000)
    assert len(few.artifacts) == 2
    assert "1 artifacts left out: more than 2 files" in few.notes[0]


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "a/../../*"])
def test_only_what_lies_below_is_looked_at(tmp_path: Path, pattern: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    write(tmp_path, secret=5)
    found = collect(scratch, [pattern], 10, 100)
    assert found.artifacts == []
    assert "only paths below" in found.notes[0]


def test_links_out_of_the_directory_are_not_followed(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    write(tmp_path, secret=5)
    write(scratch, real=1)
    (scratch / "out").symlink_to(tmp_path / "secret")
    (scratch / "in").symlink_to(scratch / "real")
    (scratch / "dangling").symlink_to(scratch / "nowhere")
    assert [a.path for a in collect(scratch, ["*"], 10, 100).artifacts] == ["in", "real"]
    (tmp_path / "other").symlink_to(scratch)
    assert "replaced by a link" in collect(tmp_path / "other", ["*"], 10, 100).notes[0]


def test_a_name_that_is_no_text_is_said_and_left_out(tmp_path: Path) -> None:
    try:
        with open(os.fsencode(tmp_path) + b"/bad\xff", "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes text only")
    found = collect(tmp_path, ["*"], 10, 100)
    assert found.artifacts == []
    assert "cannot be recorded" in found.notes[0]


def test_bad_patterns_match_nothing(tmp_path: Path) -> None:
    assert "matched nothing" in collect(tmp_path, ["**a**", ""], 10, 100).notes[0]


# -- scratch directories --------------------------------------------------------------------------
def test_a_clean_directory_serves_again_and_a_dirty_one_never(tmp_path: Path) -> None:
    area = ScratchArea(tmp_path / "attempts", lambda work, name: work())
    area.open()
    first = area.take()
    assert os.stat(first).st_mode & 0o777 == 0o700
    area.give_back(first, clean=True)
    assert area.take() == first
    Path(first, "file").write_text("x")
    Path(first + ".output").write_text("x")
    area.give_back(first, clean=False)
    second = area.take()
    assert second != first
    assert not os.path.exists(first)
    area.close()
    assert list((tmp_path / "attempts").iterdir()) == []


def test_areas_of_the_living_are_left_alone(tmp_path: Path) -> None:
    living = ScratchArea(tmp_path, lambda work, name: work())
    living.open()
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead.lock").touch()
    remove_abandoned(tmp_path)
    assert living.folder.is_dir()
    assert not (tmp_path / "dead").exists()
    assert not (tmp_path / "dead.lock").exists()
    with pytest.raises(OSError):
        lock_file(living.folder.with_suffix(".lock"))
    living.close()
