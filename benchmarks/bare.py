"""The limits underneath: what the broker and the operating system do without dtf.

Rule: plain nats-py and plain subprocess, written as a good user of them would, nothing of ours.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import nats
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy, StorageType, StreamConfig

from ..core.adapters.nats_client import NatsOptions
from ..core.server import EmbeddedServer

PAYLOAD = b"x" * 200


async def _streams(options: NatsOptions) -> None:
    connection = await nats.connect(options.url, user=options.user, password=options.password)
    stream = connection.jetstream()
    for name, subject in (("BARE_T", "bare.task"), ("BARE_R", "bare.result.>")):
        config = StreamConfig(name=name, subjects=[subject], storage=StorageType.FILE)
        await stream.add_stream(config)
    await stream.add_consumer("BARE_T", ConsumerConfig(durable_name="w", max_ack_pending=-1))
    await connection.close()


async def work(url: str, user: str, password: str) -> None:
    """A worker: pull, acknowledge, publish a result; until it is terminated."""
    connection = await nats.connect(url, user=user, password=password)
    stream = connection.jetstream(publish_async_max_pending=4000)
    tasks = await stream.pull_subscribe_bind("w", "BARE_T")
    print("ready", flush=True)
    while True:
        try:
            messages = await tasks.fetch(500, timeout=1)
        except TimeoutError:
            continue
        for message in messages:
            await message.ack()
            await stream.publish_async("bare.result.r", message.data)


class BareRoundTrip:
    """Client, two pull workers, a result stream; one task a message. `async with`, then `run`."""

    def __init__(self, data_dir: Path, *, fsync: bool) -> None:
        self.server = EmbeddedServer(data_dir, sync_always=fsync)
        self.workers: list[subprocess.Popen[bytes]] = []

    async def __aenter__(self) -> BareRoundTrip:
        await self.server.start()
        options = self.server.options("bare")
        await _streams(options)
        command = [sys.executable, "-m", "dtf.benchmarks.bare", options.url]
        command += [options.user or "", options.password or ""]
        for _ in range(2):
            self.workers.append(subprocess.Popen(command, stdout=subprocess.PIPE))  # noqa: ASYNC220
        for worker in self.workers:
            assert worker.stdout is not None
            await asyncio.to_thread(worker.stdout.readline)
        self.connection = await nats.connect(
            options.url, user=options.user, password=options.password
        )
        self.stream = self.connection.jetstream(publish_async_max_pending=4000)
        self.returned = 0
        self.wanted = 0
        self.done = asyncio.Event()

        async def result(message: Msg) -> None:
            self.returned += 1
            if self.returned >= self.wanted:
                self.done.set()

        await self.stream.subscribe(
            "bare.result.>", ordered_consumer=True, cb=result, deliver_policy=DeliverPolicy.NEW
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        for worker in self.workers:
            worker.terminate()
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()
        await self.connection.close()
        await self.server.stop()

    async def run(self, tasks: int) -> float:
        """Round trips a second of `tasks` tasks, first publish to last result at the client."""
        self._expect(tasks)
        started = time.perf_counter()
        for _ in range(tasks):
            await self.stream.publish_async("bare.task", PAYLOAD)
        await self.done.wait()
        return tasks / (time.perf_counter() - started)

    async def latencies_ms(self, number: int) -> list[float]:
        """Milliseconds of single round trips, one in flight, each publish acknowledged."""
        found = []
        for _ in range(number):
            self._expect(1)
            started = time.perf_counter()
            await self.stream.publish("bare.task", PAYLOAD)
            await self.done.wait()
            found.append((time.perf_counter() - started) * 1000)
        return found

    def _expect(self, more: int) -> None:
        self.done.clear()
        self.returned = 0
        self.wanted = more


def subprocess_loop(number: int) -> float:
    """Processes a second of a serial `subprocess.run` of /bin/true with captured output."""
    started = time.perf_counter()
    for _ in range(number):
        subprocess.run(["/bin/true"], capture_output=True, check=True)
    return number / (time.perf_counter() - started)


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:4]))
