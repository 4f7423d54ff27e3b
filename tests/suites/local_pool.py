"""A pool that is kept between runs of pytest. Rule: what is started here is ended here."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .outcomes import environment

START_LIMIT_S = 60.0
END_LIMIT_S = 30.0


@contextmanager
def local_pool(data_dir: Path, workers: int = 2) -> Iterator[dict[str, str]]:
    """A pool runs on `data_dir`; the variables under which `pytest --dtf` finds it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    env = {"DTF_DATA_DIR": str(data_dir)}
    words = ["-m", "dtf", "up", "--workers", str(workers)]
    with (data_dir / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=data_dir,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_up(process, data_dir)
        yield env
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _wait_until_up(process: subprocess.Popen[bytes], data_dir: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    log = data_dir / "up.log"
    while b"Ctrl-C stops it" not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"no pool on {data_dir}: {log.read_text(errors='replace')}")
        time.sleep(0.02)
