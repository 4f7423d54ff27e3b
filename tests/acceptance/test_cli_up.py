"""A pool that is up: everything that looks and acts, then its end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from acceptance.cli_process import Place, ended, interrupt


@contextmanager
def up(place: Place, *arguments: str) -> Iterator[None]:
    """A pool runs; it ends in order."""
    process = place.start("up", *arguments)
    assert process.stderr is not None
    while "Ctrl-C stops it" not in process.stderr.readline():
        assert process.poll() is None, process.stderr.read()
    yield
    interrupt(process, signal.SIGTERM)
    done = ended(process)
    assert done.status == 0, done


def test_a_day_in_the_life_of_a_pool(place: Place) -> None:
    suite = place.suite(
        f"""
        [[task]]
        name = "slow"
        command = ["bash", "-c", "echo begin; echo on > {place.directory}/started; \
            until [ -e {place.directory}/open ]; do sleep 0.05; done; echo end"]
        [[task]]
        name = "never"
        command = ["sleep", "1000"]
        """
    )
    with up(place, "--workers", "2"):
        status = place.dtf("status", "--json").json()
        assert status["schema"] == "dtf.status/1"
        assert status["workers"] == 2
        assert status["leader"].startswith("local, term ")
        workers = [row["worker"] for row in place.dtf("worker", "ls", "--json").json()["rows"]]
        assert len(workers) == 2

        run = place.dtf("submit", suite).out.strip()
        assert len(run) == 26
        place.wait_for("started")
        follower = place.start("task", "log", "-f", f"{run}/slow-0")
        assert follower.stdout is not None
        assert follower.stdout.readline() == "begin\n"
        cancelled = place.dtf("task", "cancel", f"{run}/never-0", "--reason", "enough")
        assert cancelled.status == 0, cancelled.err
        (place.directory / "open").touch()
        assert ended(follower).out == "end\n"

        waited = place.dtf("runs", "wait", run, "--json")
        assert waited.status == 4, waited
        assert waited.json()["counts"] == {"passed": 1, "cancelled": 1}
        again = place.dtf("runs", "cancel", run)
        assert again.status == 2
        assert "over already" in again.err

        drained = place.dtf("worker", "drain", workers[0], "--reason", "repair")
        assert drained.status == 0, drained.err
        shown = place.dtf("worker", "show", workers[0], "--json").json()
        assert (shown["state"], shown["reason"]) == ("drained", "repair")
        assert place.dtf("worker", "undrain", workers[0]).status == 0
        assert place.dtf("worker", "drain", "nobody").status == 2
    place.nothing_runs()


def test_a_taken_port_is_said_so(place: Place) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = place.dtf("up", "--port", str(port))
    assert done.status == 3
    assert f"port {port} is taken" in done.err
