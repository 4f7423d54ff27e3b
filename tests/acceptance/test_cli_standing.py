"""A pool that stands in the background: it starts once, is used, and ends when it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest
from acceptance.cli_process import Place, until
from dtf.core.config import load_config
from dtf.core.errors import ServerUnavailable
from dtf.core.pool_file import find_pool_file
from dtf.core.pool_process import PoolInUse
from dtf.local import ensure_pool

ONE = '[[task]]\nname = "yes"\ncommand = "true"\n'
SLOW = """
[[task]]
name = "slow"
command = ["bash", "-c", "echo on > {0}/started; until [ -e {0}/open ]; do sleep 0.02; done"]
"""
HOLDER = """
import sys
from dtf.core.config import load_config
from dtf.core.pool_process import PoolInUse
use = PoolInUse(load_config({"data_dir": sys.argv[1]}), 1)
print(use.wait().pid, flush=True)
sys.stdin.read()
"""


def config_of(place: Place):
    return load_config({"data_dir": str(place.data_dir)}, {}, place.directory, place.directory)


def test_a_detached_pool_is_used_by_runs_until_it_is_told_to_end(place: Place) -> None:
    begun = place.dtf("up", "--detach", "--workers", "2")
    assert begun.status == 0, begun.err
    assert "dtf is up: 2 workers" in begun.err
    assert "dtf down" in begun.err
    again = place.dtf("up", "--detach")
    assert again.status == 0
    assert "up already" in again.err
    refused = place.dtf("up")
    assert refused.status == 3

    done = place.dtf("run", place.suite(ONE), "--json")
    assert done.status == 0, done.err
    assert "Starting" not in done.err
    assert place.dtf("status", "--json").json()["workers"] == 2

    ended = place.dtf("down")
    assert ended.status == 0, ended.err
    place.nothing_runs()
    nothing = place.dtf("down")
    assert nothing.status == 0
    assert "No pool runs" in nothing.err


def test_history_is_answered_from_the_first_moment(place: Place) -> None:
    """The projector starts late, but a query that comes before waits for it."""
    assert place.dtf("up", "--detach", "--workers", "1").status == 0
    listed = place.dtf("runs", "ls", "--json")
    assert listed.status == 0, listed.err
    assert listed.json()["rows"] == []
    assert place.dtf("down").status == 0


def test_down_leaves_the_pool_of_a_run_alone(place: Place) -> None:
    run = place.start("run", place.suite(SLOW.format(place.directory)))
    place.wait_for("started")
    refused = place.dtf("down")
    assert refused.status == 2
    assert "belongs to a command that runs" in refused.err
    (place.directory / "open").touch()
    run.communicate()
    assert run.returncode == 0


def test_down_waits_for_who_uses_the_pool_and_says_when_it_gives_up(place: Place) -> None:
    assert place.dtf("up", "--detach", "--workers", "1").status == 0
    run = place.start("run", place.suite(SLOW.format(place.directory)))
    place.wait_for("started")
    late = place.dtf("down", "--timeout", "200ms")
    assert late.status == 3
    assert "still runs after 0.2 s" in late.err
    (place.directory / "open").touch()
    run.communicate()
    assert run.returncode == 0
    place.nothing_runs()


def test_a_pool_nobody_uses_ends_by_itself_but_not_under_a_run(place: Place) -> None:
    begun = place.dtf("up", "--detach", "--workers", "1", "--idle-stop", "1s")
    assert begun.status == 0, begun.err
    found = find_pool_file(place.data_dir)
    assert found is not None
    run = place.dtf("submit", place.suite(SLOW.format(place.directory)))
    assert run.status == 0, run.err
    place.wait_for("started")
    opened = place.data_dir / "users.lock"
    old = opened.stat().st_mtime - 100
    os.utime(opened, (old, old))  # as if the last command had been long ago
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["tail", "-f", f"--pid={found.pid}", os.devnull], timeout=1.5, check=True)
    (place.directory / "open").touch()
    until(lambda: find_pool_file(place.data_dir) is None, "the pool ends when its run is over")
    place.nothing_runs()


@pytest.mark.parametrize("wrong", ["soon", "0s", "-1s"])
def test_a_wrong_idle_time_is_named(place: Place, wrong: str) -> None:
    done = place.dtf("up", f"--idle-stop={wrong}")
    assert done.status == 2
    assert "--idle-stop" in done.err


def test_a_detached_pool_that_cannot_start_says_why(place: Place) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = place.dtf("up", "--detach", "--port", str(port))
    assert done.status == 3
    assert f"port {port} is taken" in done.err


def test_a_pool_file_left_by_a_kill_is_no_pool(place: Place) -> None:
    assert place.dtf("up", "--detach", "--workers", "1").status == 0
    found = find_pool_file(place.data_dir)
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    place.nothing_runs()
    done = place.dtf("down")
    assert done.status == 0
    assert "No pool runs" in done.err


async def test_a_pool_that_runs_is_found_and_stays(place: Place) -> None:
    config = config_of(place)
    first, release_first = await ensure_pool(config, 1)
    assert psutil.pid_exists(first.pid)
    second, release_second = await ensure_pool(config, 1)
    assert second.pid == first.pid
    await release_second()
    assert find_pool_file(place.data_dir) is not None
    await release_first()
    assert find_pool_file(place.data_dir) is None
    place.nothing_runs()


def test_a_pool_ends_with_whoever_started_it_even_killed(place: Place) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place.data_dir)],
        cwd=place.directory,
        env=place.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    pid = int(holder.stdout.readline())
    assert psutil.pid_exists(pid)
    holder.kill()
    holder.communicate()
    place.nothing_runs()


def test_a_pool_that_cannot_start_is_an_error_with_its_words(place: Place) -> None:
    place.data_dir.mkdir()
    (place.data_dir / "server").write_text("no directory")
    use = PoolInUse(config_of(place), 1)
    with pytest.raises(ServerUnavailable, match="the pool did not start"):
        use.wait()
    use.release()


def test_a_worker_of_the_crew_that_dies_is_started_again(place: Place) -> None:
    assert place.dtf("up", "--detach", "--workers", "1").status == 0
    log = next((place.data_dir / "workers").glob("*.log"))

    def joins() -> int:
        return log.read_text().count("joined pool")

    until(lambda: joins() == 1, "the worker has joined")
    status = msgspec.json.decode(place.dtf("worker", "ls", "--json").out)
    name = status["rows"][0]["worker"]
    crew = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(log.with_suffix(""))]
    workers = [p for p in crew if p.ppid() != 1 and "dtf.worker.crew" in " ".join(p.cmdline())]
    assert workers, name
    workers[0].kill()
    until(lambda: joins() == 2, "the worker has joined again")
    assert place.dtf("run", place.suite(ONE)).status == 0
    assert place.dtf("down").status == 0


def test_without_a_crew_workers_are_started_one_by_one(place: Place) -> None:
    place.env["DTF_CREW"] = "0"
    done = place.dtf("run", place.suite(ONE), "--workers", "1")
    assert done.status == 0, done.err
    log: Path = next((place.data_dir / "workers").glob("*.log"))
    assert "joined pool" in log.read_text()
