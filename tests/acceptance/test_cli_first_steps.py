"""What a new user types, in order: each command says the next one, and nothing is left running."""

from __future__ import annotations

import re
import shlex

import msgspec
from acceptance.cli_process import Place


def next_command(err: str) -> list[str]:
    """The command the last `next:` line names, as arguments of dtf."""
    line = re.findall(r"next: (.*)", err)[-1].split("&& ")[-1]
    words = shlex.split(line)
    assert words[0] == "dtf"
    return words[1:]


def test_from_init_to_the_output_of_a_task(place: Place) -> None:
    (place.directory / "dtf.toml").unlink()
    begun = place.dtf("init")
    assert begun.status == 0, begun.err
    again = place.dtf("init")
    assert again.status == 2
    assert "exists already; nothing was written" in again.err

    ran = place.dtf(*next_command(begun.err))
    assert ran.status == 0, ran.err
    assert "5 passed of 5 tasks" in ran.out
    assert re.search(r"sort +100000 +✔ [\d.]+ [mµ]?s +✔ ", ran.out)
    assert "✔" not in ran.err
    place.nothing_runs()

    shown = place.dtf(*next_command(ran.err))
    assert shown.status == 0, shown.err
    assert shown.out == ran.out

    log = place.dtf("task", "log", "last/hello-0")
    assert log.out == "any program is a test: exit status 0 means passed\n"


def test_failures_are_explained_and_repeated(place: Place) -> None:
    suite = place.suite(
        """
        [[task]]
        name = "check"
        command = ["bash", "-c", "echo one; echo two {n}; exit {n}"]
        matrix = { n = [0, 3] }
        """
    )
    ran = place.dtf("run", suite)
    assert ran.status == 1
    assert "exit status 3" in ran.out
    assert "    two 3" in ran.out
    assert next_command(ran.err)[:2] == ["task", "log"]
    assert place.dtf(*next_command(ran.err)).out == "one\ntwo 3\n"

    repeated = place.dtf("runs", "retry", "last")
    assert repeated.status == 1
    assert "1 failed of 1 task" in repeated.out
    listed = place.dtf("runs", "ls", "--json").json()
    assert listed["schema"] == "dtf.runs/1"
    newest, oldest = listed["rows"]
    assert newest["retry_of"] == oldest["run"]
    assert (newest["tasks"], oldest["tasks"]) == (1, 2)


def test_history_outlives_the_pool_and_is_found_by_any_beginning(place: Place) -> None:
    suite = place.suite('[[task]]\nname = "yes"\ncommand = "true"\n')
    first = place.dtf("run", suite, "--json")
    assert first.status == 0, first.err
    assert first.json()["schema"] == "dtf.run/1"
    run = first.json()["run"]
    for name in (run, run[:6], "last"):
        assert place.dtf("runs", "show", name, "--json").json()["run"] == run
    unknown = place.dtf("runs", "show", "zzzz")
    assert unknown.status == 2
    assert "there is no run 'zzzz'" in unknown.err
    assert "next: List them with: dtf runs ls" in unknown.err
    events = [row["event"] for row in place.dtf("task", "events", "yes-0", "--json").json()["rows"]]
    assert events[0] == "RunSubmitted"
    assert events[-1] == "RunSettled"
    assert "TaskSettled" in events


def test_a_run_is_asked_about_in_every_way(place: Place) -> None:
    suite = place.suite(
        """
        [[task]]
        name = "check"
        command = ["bash", "-c", "exit {n}"]
        matrix = { n = [0, 3] }
        """
    )
    ran = place.dtf("run", suite, "--junit", "out/junit.xml", "-q")
    assert (ran.status, ran.err) == (1, "")
    junit = (place.directory / "out" / "junit.xml").read_text()
    assert 'tests="2" failures="1"' in junit
    assert place.dtf("report", "junit", "last").out == junit
    assert "check" in place.dtf("report", "md", "last").out
    rows = place.dtf("sql", "SELECT task, verdict FROM tasks ORDER BY task", "-o", "csv").out
    assert rows == "task,verdict\ncheck-0,passed\ncheck-1,failed\n"
    tail = place.dtf("audit", "tail", "--kinds", "RunSettled", "--json").json()
    assert [row["type"] for row in tail["rows"]] == ["RunSettled"]
    listed = place.dtf("task", "ls", "last", "--failed", "-o", "jsonl").out
    assert msgspec.json.decode(listed)["task"] == "check-1"
    shown = place.dtf("task", "show", "last/check-1", "--json").json()
    assert shown["schema"] == "dtf.task/1"
    assert [attempt["exit_code"] for attempt in shown["attempts"]] == [3]
