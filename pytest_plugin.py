"""The pytest plugin `dtf`: options, a marker, a fixture, and the way into `pytest --dtf`.

Rule: pytest loads this file in every run of every environment that has dtf, so it imports nothing
but the standard library and pytest; whatever works on a pool is imported once `--dtf` was given.

PYTEST_DONT_REWRITE. On a worker it only offers its marker and fixture: `--dtf` does not travel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .tui.pytest.session import Session

_SPLIT_HELP = (
    "What stays together on one worker process. auto: files, slow ones split where no fixture of "
    "module, class or package scope is in use; case: nothing, every test alone; file or module: "
    "each file, so module fixtures are set up once; class: each class; group and "
    "shard: each file, for now. Session and package fixtures are set up once in each worker "
    "process."
)
_ISOLATION_HELP = (
    "How often a fresh process is used. none: the shards of one worker share one, as in plain "
    "pytest; shard, file, case: one for each."
)
MARKER = (
    "dtf(hardware, memory, isolation, retries, timeout, group): where and how this test runs under "
    "--dtf; without it the marker changes nothing."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dtf", "dtf: run tests on a pool of workers")
    add = group.addoption
    add("--dtf", action="store_true", default=False, dest="dtf",
        help="Run the tests on the pool; without a server, on one of this machine.")  # fmt: skip
    add("--dtf-server", metavar="URL", dest="dtf_server",
        help="Server of the pool (default: DTF_SERVER, dtf.toml, the context in use).")  # fmt: skip
    add("--dtf-workers", metavar="N", type=int, dest="dtf_workers",
        help="Worker processes of the local pool; on a server, most tasks at once.")  # fmt: skip
    add("--dtf-split", metavar="MODE", dest="dtf_split", help=_SPLIT_HELP)
    add("--dtf-isolation", metavar="MODE", dest="dtf_isolation", help=_ISOLATION_HELP)
    add("--dtf-hardware", metavar="CLASS", dest="dtf_hardware",
        help="Accelerator class the tests need, such as cuda (default: cpu).")  # fmt: skip
    add("--dtf-timeout", metavar="SECONDS", type=float, dest="dtf_timeout",
        help="Most wall time of one test; then its stacks are dumped and it is ended.")  # fmt: skip
    add("--dtf-bundle", action="store_true", default=False, dest="dtf_bundle",
        help="Ship the working tree to a local pool too, instead of running in place.")  # fmt: skip
    add("--dtf-env", metavar="NAME", action="append", dest="dtf_env",
        help="Environment variable that travels with the tests; may be repeated.")  # fmt: skip
    parser.addini("dtf_split", "Default of --dtf-split.", default="auto")
    parser.addini("dtf_workers", "Default of --dtf-workers.", default="")
    parser.addini("dtf_env", "Environment variables that travel.", type="args", default=[])
    parser.addini("dtf_preload", "Modules the warm process imports.", type="args", default=[])
    parser.addini("dtf_suite", "Name the pool remembers durations under.", default="")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> None:
    """With `--dtf`: refuse what cannot work, connect in the background, spare needless conftests.

    Raises `pytest.UsageError`.
    """
    if not getattr(early_config.known_args_namespace, "dtf", False):
        return
    from .tui.pytest.session import begin

    begin(early_config, args)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


class Dtf:
    """What the fixture `dtf` gives: a test's own words to the pool; without one they do nothing."""

    def __init__(self, case: str) -> None:
        self._case = case

    def measure(
        self, name: str, value: float, unit: str = "", *, samples: Iterable[float] | None = None
    ) -> None:
        """Record one number of this test: `value` in `unit`, with the raw `samples` behind it.

        Raises ValueError for NaN or infinity.
        """
        from .core.report import measure

        measure(name, value, unit, samples=samples, case=self._case)

    def placed(self, requested: str, actual: str, detail: str = "") -> None:
        """Say where the test really ran; elsewhere than requested is a fallback."""
        from .core.report import placed

        placed(requested, actual, detail)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the running task; empty outside a pool."""
        from .core.report import params

        return params()


@pytest.fixture
def dtf(request: pytest.FixtureRequest) -> Dtf:
    """Measurements and placement of this test: dtf.measure, dtf.placed, dtf.params."""
    return Dtf(request.node.nodeid)


def active(config: pytest.Config) -> Session | None:
    """The session on the pool that this pytest run feeds from, if any."""
    found: Session | None = config.pluginmanager.get_plugin("dtf-session")
    return found
