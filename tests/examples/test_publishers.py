"""Publishers that are not ours submit a run and follow it to its end, on a real worker."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import pytest
from dtf.coordinator.service import Coordinator
from dtf.core.adapters.nats_client import connect
from dtf.core.ids import run_id
from dtf.core.server import EmbeddedServer
from dtf.core.subjects import Subjects

from .conftest import EXAMPLES

PUBLISHERS = EXAMPLES / "publishers"
LIMIT_S = 60
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


class Said(NamedTuple):
    status: int
    out: str
    err: str


async def call(env: dict[str, str], *words: str, cwd: Path | None = None) -> Said:
    with TemporaryFile() as out, TemporaryFile() as err:
        process = await asyncio.create_subprocess_exec(
            *words, env={**os.environ, **env}, cwd=cwd, stdout=out, stderr=err
        )
        try:
            async with asyncio.timeout(LIMIT_S):
                status = await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            status = -1
        said = [(file.seek(0), file.read().decode())[1] for file in (out, err)]
    assert status >= 0, f"{words[0]} did not end by itself; it said {said}"
    return Said(status, *said)


def entrance(server: EmbeddedServer) -> dict[str, str]:
    """The server as a publisher of any language is told it."""
    options = server.options("publisher")
    return {
        "NATS_URL": str(options.url),
        "NATS_USER": options.user or "",
        "NATS_PASSWORD": options.password or "",
    }


@pytest.fixture
async def running(
    server: EmbeddedServer, pool: Subjects, tmp_path: Path
) -> AsyncIterator[dict[str, str]]:
    """A pool with a coordinator and a worker process; how to enter it."""
    env = entrance(server)
    secret = tmp_path / "password"
    secret.write_text(env["NATS_PASSWORD"])
    link = await connect(server.options("coordinator"))
    leader = asyncio.create_task(Coordinator.connected(link, "main", "c1").run())
    line = ["-m", "dtf.worker", "run", "--server", env["NATS_URL"], "--user", env["NATS_USER"]]
    line += ["--password-file", str(secret), "--data-dir", str(tmp_path / "worker")]
    worker = await asyncio.create_subprocess_exec(sys.executable, *line)
    yield env
    worker.terminate()
    await worker.wait()
    leader.cancel()
    with suppress(asyncio.CancelledError):
        await leader
    await link.aclose()


async def test_the_shell_script_follows_its_run_to_the_end(running: dict[str, str]) -> None:
    script = str(PUBLISHERS / "submit.sh")
    words = (script, "ci", "build 1", "sh", "-c", 'test "$0" = "a \\"b\\""', 'a "b"')
    done = await call(running, *words)
    assert done.status == 0, done.err
    settled = json.loads(done.out)
    assert settled["type"] == "RunSettled"
    assert settled["counts"] == {"passed": 1}
    assert run_id("ci", "build 1") in done.err

    again = await call(running, *words)
    assert again.out == done.out, "the same key is the same run: it is over already"

    failed = await call(running, script, "ci", "build 2", "false")
    assert failed.status == 1
    assert json.loads(failed.out)["counts"] == {"failed": 1}


async def test_a_refused_run_ends_the_shell_script(running: dict[str, str]) -> None:
    script = str(PUBLISHERS / "submit.sh")
    first = await call(running, script, "ci", "build 3", "true")
    other = await call(running, script, "ci", "build 4", "")
    assert first.status == 0
    assert other.status == 1
    assert json.loads(other.out)["type"] == "SubmissionRejected"


async def test_the_documented_line_submits_the_run(running: dict[str, str]) -> None:
    """`nats` is a stand-in made of nats.bash: no package registry carries the real program."""
    (line,) = re.findall(r"```bash\n(.*?)```", (PUBLISHERS / "shell.md").read_text(), re.DOTALL)
    stand_in = f"""
        set -euo pipefail
        source {PUBLISHERS}/nats.bash
        nats_connect
        nats() {{ [[ $1 == req ]] && nats_request "$2" "$3" && echo "$nats_reply"; }}
        nats_subscribe 'dtf.main.ruling.*'
        {line}
        until [[ ${{nats_payload:-}} == *RunSettled* ]]; do nats_next; done
        echo "$nats_subject $nats_payload"
    """
    done = await call(running, "bash", "-c", stand_in)
    assert done.status == 0, done.err
    ack, settled = done.out.splitlines()
    assert json.loads(ack)["stream"] == "DTF_main_LOG"
    assert settled.startswith(f"dtf.main.ruling.{run_id('ci', 'build-42')} ")
    assert '"counts":{"passed":3}' in settled


async def test_without_a_pool_the_script_says_what_is_missing(
    server: EmbeddedServer,
) -> None:
    env = entrance(server)
    script = str(PUBLISHERS / "submit.sh")
    nowhere = await call(env, script, "ci", "build", "true")
    assert nowhere.status == 3
    assert "is pool 'main' made on this server?" in nowhere.err
    stranger = await call({**env, "NATS_PASSWORD": "wrong"}, script, "ci", "build", "true")
    assert stranger.status == 3
    assert "Authorization Violation" in stranger.err
    usage = await call(env, script, "ci")
    assert usage.status == 2
    assert "Arguments: publisher, key, command." in usage.err


@pytest.fixture(scope="session")
def node_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node program with its two packages."""
    import subprocess

    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "submit.mjs"):
        shutil.copy(PUBLISHERS / "node" / name, folder)
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"npm cannot install @nats-io/transport-node: {done.stderr[-200:]}")
    return folder


async def test_the_node_program_follows_its_run_to_the_end(
    running: dict[str, str], node_program: Path
) -> None:
    line = ("node", "submit.mjs", "ci", "build-9", "echo", "héllo")
    done = await call(running, *line, cwd=node_program)
    assert done.status == 0, done.err
    assert json.loads(done.out)["counts"] == {"passed": 1}
    assert run_id("ci", "build-9") in done.err
    assert "task-0: passed" in done.err
    again = await call(running, *line, cwd=node_program)
    assert again.out == done.out
