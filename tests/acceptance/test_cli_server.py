"""The command line against a server that is not its own."""

from __future__ import annotations

from acceptance.cli_process import Place
from dtf.core.server import EmbeddedServer

ONE = '[[task]]\nname = "yes"\ncommand = "true"\n'


async def test_without_a_leader_a_run_is_refused_and_a_submission_kept(place: Place) -> None:
    import anyio.to_thread

    place.suite(ONE)

    async def dtf(*arguments: str) -> tuple[int, str]:
        done = await anyio.to_thread.run_sync(lambda: place.dtf(*arguments))
        return done.status, done.err

    async with EmbeddedServer(place.directory / "elsewhere") as server:
        place.env |= {"DTF_SERVER": server.url, "DTF_USER": server.user}
        status, err = await dtf("runs", "ls")
        assert status == 2
        assert "refused the credentials" in err
        place.env["DTF_PASSWORD"] = server.password
        status, err = await dtf("submit", "suite.toml")
        assert status == 1, err
        assert "next: Create the pool first: `dtf pool init`" in err
        for _ in range(2):
            assert (await dtf("pool", "init"))[0] == 0

        status, err = await dtf("run", "suite.toml")
        assert status == 3, err
        assert "nobody leads pool main; nothing was submitted" in err
        status, err = await dtf("doctor")
        assert status == 3, err
        status, err = await dtf("submit", "suite.toml")
        assert status == 0, err
        status, err = await dtf("runs", "ls")
        assert status == 3
        assert "no query service answers" in err
