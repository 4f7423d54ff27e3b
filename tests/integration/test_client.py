"""The client against a real server: what "submitted" promises, and what it reads back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from dtf.core import events as e
from dtf.core.adapters.nats_client import Connection
from dtf.core.client import Client, open_client
from dtf.core.config import Config, load_config
from dtf.core.errors import (
    InvalidConfig,
    InvalidName,
    InvalidSubmission,
    NotFound,
    QueryRefused,
    ServerUnavailable,
    Unavailable,
    UserError,
)
from dtf.core.fold import Fold
from dtf.core.ids import attempt_token, run_id
from dtf.core.model import TaskSpec, Verdict
from dtf.core.pool_file import PoolFile, write_pool_file
from dtf.core.server import EmbeddedServer
from dtf.core.subjects import Subjects
from dtf.core.submit import GroupPlan, Submission, json_items
from msgspec import Raw

SPEC = TaskSpec(command=["/bin/true"])


def config_of(server: EmbeddedServer, tmp_path: Path, **more: str) -> Config:
    flags = {"server": server.url, "user": server.user, "password": server.password, **more}
    flags = {"publisher": "me", "data_dir": str(tmp_path), **flags}
    return load_config(flags, {}, tmp_path, tmp_path)


@pytest.fixture
async def client(server: EmbeddedServer, pool: Subjects, tmp_path: Path) -> AsyncIterator[Client]:
    async with open_client(config_of(server, tmp_path)) as opened:
        yield opened


def submission(key: str = "k", tasks: int = 2, **more) -> Submission:
    plan = GroupPlan(name="g", spec=SPEC, count=tasks)
    return Submission(publisher="me", key=key, groups=[plan], **more)


class Leader:
    """Writes what a leader and a worker would write."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.subjects = client.subjects
        self.term = 0

    async def elect(self) -> None:
        self.term += 1
        claim = e.LeaderElected(term=self.term, coordinator="c", nonce="n")
        await self.client.put_event(self.subjects.leader, claim)

    async def finish(self, run: str, task: str, value: bytes = b"1") -> None:
        token = attempt_token(task, 1, self.term, "n")
        ended = e.AttemptFinished(
            token=token, verdict=Verdict.PASSED, duration_us=5, value=Raw(value)
        )
        at = await self.client.put_event(self.subjects.attempt("w", run), ended)
        ruling = e.TaskSettled(
            term=self.term, task=task, verdict=Verdict.PASSED, token=token, at=(at, 0)
        )
        await self.client.put_event(self.subjects.ruling(run), ruling)

    async def end(self, run: str, verdict: str = "passed", **counts: int) -> None:
        ruling = e.RunSettled(term=self.term, verdict=verdict, counts=counts)
        await self.client.put_event(self.subjects.ruling(run), ruling)


@pytest.fixture
async def leader(client: Client) -> Leader:
    leader = Leader(client)
    await leader.elect()
    return leader


async def fold_of(client: Client) -> Fold:
    fold = Fold(client.config.pool)
    last = (await client.log.tail()).last
    async with aclosing(client.log.read([], 0)) as batches:
        async for batch in batches:
            for message in batch:
                fold.apply(message)
            if batch[-1].sequence >= last:
                return fold
    raise AssertionError("the log ended")


async def test_submitted_means_the_pool_has_it(client: Client) -> None:
    run = await client.submit(submission(name="nightly"))
    assert run == run_id("me", "k")
    state = (await fold_of(client)).pool.runs[run]
    assert (state.closed, state.size, state.publisher) == (True, 2, "me")


async def test_a_long_list_lands_whole(client: Client) -> None:
    items = json_items({"i": i, "text": "x" * 30} for i in range(40_000))
    plan = GroupPlan(name="g", spec=SPEC, items=items)
    run = await client.submit(Submission(publisher="me", key="long", groups=[plan]))
    state = (await fold_of(client)).pool.runs[run]
    assert (state.closed, state.size, len(state.groups)) == (True, 40_000, 3)


async def test_the_same_key_twice_is_one_run(client: Client, leader: Leader) -> None:
    run = await client.submit(submission())
    await leader.finish(run, "g-0")
    await leader.finish(run, "g-1")
    await leader.end(run, passed=2)
    assert await client.submit(submission()) == run
    voids = (await fold_of(client)).pool.voids
    assert (voids["duplicate"], voids["run_settled"]) == (1, 2)
    view = await client.wait(run)
    assert (view.verdict, view.counts, view.size) == ("passed", {"passed": 2}, 2)


async def test_nothing_is_sent_of_a_bad_submission(client: Client) -> None:
    before = await client.log.tail()
    with pytest.raises(InvalidSubmission):
        await client.submit(submission(name="x" * 300))
    assert await client.log.tail() == before


async def test_submit_outlasts_a_restarting_server(client: Client, server: EmbeddedServer) -> None:
    await client.submit(submission("before"))
    server.kill()
    sending = asyncio.ensure_future(client.submit(submission("during", tasks=7)))
    await server.restart()
    run = await sending
    assert (await fold_of(client)).pool.runs[run].size == 7


async def test_a_run_is_followed_to_its_end_by_one_consumer(
    client: Client, leader: Leader, connection: Connection
) -> None:
    run = await client.submit(submission())
    states = []
    async with aclosing(client.follow(run, keep_values=True)) as views:
        async for view in views:
            states.append((view.state, view.settled))
            if view.settled < 2:
                info = await connection.api(f"STREAM.INFO.{client.subjects.log_stream}")
                assert info["state"]["consumer_count"] == 1
                await leader.finish(run, f"g-{view.settled}")
            elif not view.done:
                await leader.end(run, passed=2)
    assert states[0] == ("queued", 0)
    assert states[-1] == ("settled", 2)
    assert {task: bytes(value) for task, value in view.values.items()} == {
        "g-0": b"1",
        "g-1": b"1",
    }


async def test_following_outlasts_a_killed_server(
    client: Client, leader: Leader, server: EmbeddedServer
) -> None:
    run = await client.submit(submission())
    async with aclosing(client.follow(run)) as views:
        view = await anext(views)
        await leader.finish(run, "g-0")
        server.kill()
        await server.restart()
        await leader.finish(run, "g-1")
        await leader.end(run, passed=2)
        view = [each async for each in views][-1]
    assert (view.verdict, view.counts) == ("passed", {"passed": 2})


async def test_followers_begin_at_their_runs_and_know_the_elections_before(
    client: Client, leader: Leader
) -> None:
    old = await client.submit(submission("old"))
    await leader.elect()
    run = await client.submit(submission("new"))
    stale = e.TaskSettled(term=1, task="g-0", verdict=Verdict.FAILED)
    for each in (old, run):
        await client.put_event(client.subjects.ruling(each), stale)
    for _ in range(2):
        for each in (run, old):
            view = await client.view(each)
            assert (view.counts, view.term, view.state) == ({}, 2, "queued")


async def test_who_follows_late_sees_the_same(client: Client, leader: Leader) -> None:
    run = await client.submit(submission())
    await leader.finish(run, "g-0")
    view = await client.view(run)
    assert (view.state, view.counts) == ("running", {"passed": 1})
    await leader.finish(run, "g-1")
    await leader.end(run, passed=2)
    view = await client.wait(run)
    assert (view.done, view.counts) == (True, {"passed": 2})


async def test_a_key_used_again_after_it_was_forgotten(client: Client, leader: Leader) -> None:
    run = await client.submit(submission())
    await leader.finish(run, "g-0")
    await leader.finish(run, "g-1")
    await leader.end(run, passed=2)
    forgotten = e.RunForgotten(term=leader.term)
    await client.put_event(client.subjects.ruling(run), forgotten)
    with pytest.raises(NotFound):
        await client.view(run)
    await client.submit(submission(tasks=5))
    view = await client.view(run)
    assert (view.size, view.state) == (5, "queued")


async def test_waiting_has_a_limit(client: Client) -> None:
    run = await client.submit(submission())
    view = await client.wait(run, timeout_s=0.2)
    assert (view.done, view.state) == (False, "queued")


@pytest.mark.parametrize("act", [Client.view, Client.wait, Client.cancel])
async def test_an_unknown_run_is_told_at_once(client: Client, act: Callable) -> None:
    with pytest.raises(NotFound, match="'nosuchrun'"):
        await act(client, "nosuchrun")
    with pytest.raises(InvalidName):
        await act(client, "a.*")


async def test_a_run_of_garbage_only_is_seen_as_unknown(client: Client) -> None:
    await client.put_event("dtf.main.run.me.stray", e.CancelRequested())
    assert (await client.view("stray")).state == "unknown"


async def test_cancel_lands_or_says_why_not(
    client: Client, leader: Leader, server: EmbeddedServer, tmp_path: Path
) -> None:
    run = await client.submit(submission(tasks=3))
    await leader.finish(run, "g-0")
    with pytest.raises(NotFound, match="g-0 is over already: passed"):
        await client.cancel(run, "g-0")
    with pytest.raises(NotFound, match="no task 'g-9'"):
        await client.cancel(run, "g-9")
    await client.cancel(run, "g-1", "slow")
    async with open_client(config_of(server, tmp_path, publisher="eve")) as stranger:
        with pytest.raises(UserError, match="belongs to 'me'"):
            await stranger.cancel(run)
        admins = e.PoolConfigured(admins=["eve"])
        await stranger.put_event(client.subjects.pool_rulings, admins)
        await stranger.cancel(run)
    fold = await fold_of(client)
    assert "not_owner" not in fold.pool.voids
    state = fold.pool.runs[run]
    assert state.cancel_at
    assert "g-1" in state.cancel_tasks
    await leader.finish(run, "g-1")
    await leader.finish(run, "g-2")
    await leader.end(run, "cancelled", passed=3)
    with pytest.raises(NotFound, match="over already"):
        await client.cancel(run)


async def test_an_absent_pool_or_server_is_told(
    server: EmbeddedServer, pool: Subjects, tmp_path: Path
) -> None:
    async with open_client(config_of(server, tmp_path, pool="other")) as client:
        with pytest.raises(NotFound, match="'other'"):
            await client.view("x")
    with pytest.raises(InvalidConfig):
        async with open_client(config_of(server, tmp_path, password="wrong")):
            pass
    local = load_config({}, {}, tmp_path, tmp_path)
    with pytest.raises(ServerUnavailable) as caught:
        async with open_client(local):
            pass
    assert "dtf up" in caught.value.remedy


async def test_the_local_pool_is_found(
    server: EmbeddedServer, pool: Subjects, tmp_path: Path
) -> None:
    assert server.pid is not None
    found = PoolFile(url=server.url, user=server.user, password=server.password, pid=server.pid)
    write_pool_file(tmp_path, found)
    config = load_config({"data_dir": str(tmp_path), "publisher": "me"}, {}, tmp_path, tmp_path)
    async with open_client(config) as client:
        assert await client.submit(submission()) == run_id("me", "k")


async def test_bundles_are_stored_once(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(b"content")
    digest = await client.put_bundle(path)
    assert await client.put_bundle(path) == digest
    assert await client.blobs.get(digest) == b"content"


async def test_a_query_is_answered_in_pieces(client: Client, connection: Connection) -> None:
    asked = []

    def service(subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        asked.append(msgspec.json.decode(data))
        head = {"columns": ["a"], "types": ["INTEGER"], "truncated": False, "error": None}
        for rows, last in (([[1], [2]], False), ([[3]], True)):
            piece = {**head, "rows": rows, "last": last, "truncated": last}
            connection.send(reply.decode(), msgspec.json.encode(piece))

    listening = connection.listen(client.subjects.query, service)
    await connection.api("INFO")  # the subscription is known to the server
    table = await client.query("select ?", [1], rows_max=3, timeout_s=5)
    assert (table.columns, table.rows, table.truncated) == (["a"], [[1], [2], [3]], True)
    wanted = {"sql": "select ?", "params": [1], "rows_max": 3, "timeout_ms": 5000}
    assert [{name: each[name] for name in wanted} for each in asked] == [wanted]
    connection.unlisten(listening)


async def test_a_refused_query_carries_the_reason(client: Client, connection: Connection) -> None:
    def service(subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        error = {"code": "read_only", "message": "only SELECT", "remedy": "ask"}
        connection.send(reply.decode(), msgspec.json.encode({"error": error, "last": True}))

    connection.listen(client.subjects.query, service)
    await connection.api("INFO")
    with pytest.raises(QueryRefused, match="only SELECT") as caught:
        await client.query("drop table runs")
    assert caught.value.remedy == "ask"


async def test_no_query_service_is_told(client: Client) -> None:
    with pytest.raises(Unavailable, match="no query service") as caught:
        await client.query("select 1")
    assert "projector" in caught.value.remedy
