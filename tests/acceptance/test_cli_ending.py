"""However a run is ended, its pool ends with it, and the next command works."""

from __future__ import annotations

import json
import os
import re
import signal

from acceptance.cli_process import Place, ended, interrupt, until

LONG = """
[[task]]
name = "quick"
command = ["bash", "-c", "echo quick"]
[[task]]
name = "long"
command = ["bash", "-c", "trap '' TERM; echo $$ > started; sleep 1000 & wait; wait"]
grace = "100ms"
env = { HOME = "." }
"""


def long_suite(place: Place) -> str:
    return place.suite(LONG.replace("> started", f"> {place.directory}/started"))


def test_one_interrupt_cancels_the_run_and_tells_what_is_settled(place: Place) -> None:
    process = place.start("run", long_suite(place), "--workers", "1")
    place.wait_for("started")
    interrupt(process)
    done = ended(process)
    assert done.status == 130, done
    assert "Cancelling the run" in done.err
    assert re.search(r"long +↷ cancelled", done.out)
    assert re.search(r"(1 passed, 1|  2) cancelled of 2 tasks", done.out)
    place.nothing_runs()
    shown = place.dtf("runs", "show", "last", "--json").json()
    assert shown["verdict"] == "cancelled"


def test_sigterm_counts_as_an_interrupt(place: Place) -> None:
    process = place.start("run", long_suite(place), "--workers", "1")
    place.wait_for("started")
    interrupt(process, signal.SIGTERM)
    assert ended(process).status == 130


def test_two_interrupts_end_at_once(place: Place) -> None:
    suite = place.suite(
        f"""
        [[task]]
        name = "stubborn"
        command = ["bash", "-c", "trap '' TERM; echo $$ > {place.directory}/started; sleep 1000"]
        grace = "1h"
        """
    )
    process = place.start("run", suite)
    place.wait_for("started")
    interrupt(process)
    assert process.stderr is not None
    while "Cancelling" not in process.stderr.readline():
        assert process.poll() is None
    interrupt(process)
    assert ended(process).status == 130
    place.nothing_runs()


def test_a_killed_command_leaves_nothing_and_the_next_one_works(place: Place) -> None:
    process = place.start("run", long_suite(place), "--workers", "1")
    place.wait_for("started")
    process.kill()
    assert ended(process).status == -signal.SIGKILL
    place.nothing_runs()
    yes = place.suite('[[task]]\nname = "yes"\ncommand = "true"\n', "yes.toml")
    done = place.dtf("run", yes)
    assert done.status == 0, done
    states = {row["state"] for row in place.dtf("runs", "ls", "--json").json()["rows"]}
    assert states == {"active", "passed"}


def test_a_killed_server_is_started_again_and_the_run_goes_on(place: Place) -> None:
    go = place.directory / "go"
    started = place.directory / "started"
    suite = place.suite(
        f"""
        [[task]]
        name = "patient"
        command = ["bash", "-c", "echo > {started}; until [ -e {go} ]; do sleep 0.05; done"]
        count = 3
        """
    )
    process = place.start("run", suite, "--workers", "1")
    place.wait_for("started")
    server = json.loads((place.data_dir / "server" / "server.json").read_text())
    os.kill(server["pid"], signal.SIGKILL)
    go.touch()
    done = ended(process)
    assert done.status == 0, done
    assert "starting it again" in done.err
    place.nothing_runs()


def test_a_reader_that_goes_away_is_no_error(place: Place) -> None:
    process = place.start("help", "exit-codes")
    assert process.stdout is not None
    process.stdout.close()
    process.wait()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_two_runs_share_the_pool_of_the_first(place: Place) -> None:
    suite = place.suite(
        f"""
        [[task]]
        name = "gate"
        command = ["bash", "-c", "echo on > {place.directory}/started; \
            until [ -e {place.directory}/open ]; do sleep 0.05; done"]
        """
    )
    first = place.start("run", suite, "--workers", "2")
    place.wait_for("started")
    yes = place.suite('[[task]]\nname = "yes"\ncommand = "true"\n', "yes.toml")
    second = place.dtf("run", yes)
    assert second.status == 0, second
    refused = place.dtf("up")
    assert refused.status == 3
    assert "a pool runs on" in refused.err
    (place.directory / "open").touch()
    done = ended(first)
    assert done.status == 0, done
    assert len(place.dtf("runs", "ls", "--json").json()["rows"]) == 2


def test_the_first_waits_for_the_second(place: Place) -> None:
    gate = f"until [ -e {place.directory}/open ]; do sleep 0.05; done"
    slow = place.suite(
        f'[[task]]\nname = "gate"\ncommand = ["bash", "-c", '
        f'"echo on > {place.directory}/second; {gate}"]\n',
        "slow.toml",
    )
    fast = place.suite(
        f'[[task]]\nname = "fast"\ncommand = ["bash", "-c", '
        f'"echo on > {place.directory}/first; '
        f'until [ -e {place.directory}/second ]; do sleep 0.05; done"]\n',
        "fast.toml",
    )
    first = place.start("run", fast, "--workers", "2")
    place.wait_for("first")
    second = place.start("run", slow)
    assert first.stderr is not None
    while "waiting for it" not in first.stderr.readline():
        assert first.poll() is None
    (place.directory / "open").touch()
    assert ended(second).status == 0
    assert ended(first).status == 0
    until(lambda: not (place.data_dir / "pool.json").exists(), "the pool's file is gone")
