"""Deferred modules: not loaded until used, and whole for whoever uses them."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_connecting_needs_nothing_of_the_jetstream_client() -> None:
    code = "import dtf.core.adapters.safe_client, sys; print('nats.js.api' in sys.modules)"
    assert run(code) == "False"


@pytest.mark.parametrize(
    "use",
    [
        "import nats; print(nats.js.api.Header.STATUS.value)",
        "import nats.js.api; print(nats.js.api.Header.STATUS.value)",
        "from nats.js.api import Header; print(Header.STATUS.value)",
        "from nats.js import JetStreamContext, api; print(api.Header.STATUS.value)",
    ],
)
def test_whoever_uses_it_finds_it_whole(use: str) -> None:
    assert run(f"import dtf.core.adapters.safe_client\n{use}") == "Status"


def test_what_is_loaded_already_stays() -> None:
    code = (
        "import nats, nats.js.api as api\n"
        "import dtf.core.adapters.safe_client\n"
        "import sys; print(sys.modules['nats.js.api'] is api)"
    )
    assert run(code) == "True"
