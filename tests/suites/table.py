"""Which suites of other people are run, and how. Rule: a pin and a hash, or it is not here.

Each runs without a network on plain pytest and gives the same outcomes twice in a row. Tried and
left out: anyio (its outcomes depend on the machine's network), werkzeug (its servers hang where
loopback names do not resolve), packaging (62,000 cases, a minute of plain pytest), natsort,
pyparsing, jsonschema, humanize, sniffio (need packages that have nothing to do with pytest).
"""

from __future__ import annotations

from typing import NamedTuple

PLAIN = ("-p", "no:asyncio", "-p", "no:timeout")
"""These suites were written for pytest without the plugins of our environment."""


class Suite(NamedTuple):
    """One source distribution and what running its tests takes."""

    name: str
    version: str
    sha256: str
    """Of the source distribution."""
    path: str = "src"
    """What stands on PYTHONPATH, relative to the unpacked tree; "" = the wheel of `needs`."""
    needs: tuple[str, ...] = ()
    """Requirements, pinned, installed beside the tree without their own dependencies."""
    options: tuple[str, ...] = PLAIN
    licence: str = "MIT"
    kept: bool = False
    """Small and free of requirements: compared by `make test` too."""
    left_out: str = ""
    """A -k word and, after it in brackets, why: left out under both."""
    cases: int = 0
    """Cases that plain pytest reports (Python 3.11); a suite that shrinks is noticed."""

    @property
    def words(self) -> tuple[str, ...]:
        """Options on the command line."""
        word = self.left_out.partition(" (")[0]
        return (*self.options, "-k", f"not {word}") if word else self.options

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


SUITES = (
    Suite(
        "attrs",
        "26.1.0",
        "d03ceb89cb322a8fd706d4fb91940737b6642aa36998fe130a9bc96c985eff32",
        path="",
        needs=("attrs==26.1.0", "cloudpickle==3.1.2"),
        cases=1386,
    ),
    Suite(
        "blinker",
        "1.9.0",
        "b4ce2265a7abece45e7cc896e98dbebe6cead56bcf805a3d23136d145f5445bf",
        options=("-p", "no:timeout", "-o", "asyncio_default_fixture_loop_scope=function"),
        cases=25,
    ),
    Suite(
        "boltons",
        "26.2.0",
        "d39cfd15c1a1c3bd4d705c82252fa9edb8e4f5e8cc039f8e39afac7b1b47e92c",
        path=".",
        options=(*PLAIN, "--doctest-modules", "boltons", "tests"),
        licence="BSD-3-Clause",
        cases=672,
    ),
    Suite(
        "cachetools",
        "8.0.1",
        "deb1d376d4d28c2f33f3e3058043b005e0af75c35c094bd54053e27d2906ad95",
        kept=True,
        cases=465,
    ),
    Suite(
        "click",
        "8.5.1",
        "9bbfada76703fd1d784b83eea012e3e8c6a001a876543ef104fa56aaaeb072b4",
        path="",
        needs=("click==8.5.1",),
        licence="BSD-3-Clause",
        cases=2459,
    ),
    Suite(
        "h11",
        "0.16.0",
        "4e35b956cf45792e4caa5885e69fba00bdbc6ffafbfa020300e549b208ee5ff1",
        path=".",
        cases=78,
    ),
    Suite(
        "idna",
        "3.20",
        "a7db850025b95ded1eae8a46181a1a6c56c92c96f0e2b005d9ff8dc0210cab44",
        path=".",
        licence="BSD-3-Clause",
        cases=6442,
    ),
    Suite(
        "iniconfig",
        "2.3.1",
        "67f4b9c50da0dedf52af349e7749a80a9057a5031199791b906c3bb3ae878960",
        kept=True,
        cases=54,
    ),
    Suite(
        "itsdangerous",
        "2.2.0",
        "e0050c0b7da1eea53ffaf149c0cfbb5c6e2e2b69c4bef22c81fa6eb73e5f6173",
        needs=("freezegun==1.5.5", "python-dateutil==4.0.0", "six==1.17.0"),
        licence="BSD-3-Clause",
        cases=297,
    ),
    Suite(
        "jinja2",
        "3.1.6",
        "0137fb05990d35f1275a587e9aee6d56da821fc83491a0fb838183be43f66d6d",
        needs=("trio==0.35.0", "outcome==1.3.0.post0", "sniffio==1.3.1", "sortedcontainers==2.4.0"),
        licence="BSD-3-Clause",
        cases=909,
    ),
    Suite(
        "markupsafe",
        "3.0.4",
        "2e9ad7dd851bf45fab9f75cbff4cb493fee9979e8d8c7c9c3ee119022518edd6",
        path="",
        needs=("markupsafe==3.0.4",),
        licence="BSD-3-Clause",
        cases=80,
    ),
    Suite(
        "mistune",
        "3.4.0",
        "2eaf7952af928ca8d33b779762effc1da517b62c6ad85ec8ca957e3b07b9782a",
        licence="BSD-3-Clause",
        left_out="linear and not quickly (assert wall times, which fails on a busy machine)",
        cases=1309,
    ),
    Suite(
        "more-itertools",
        "11.2.1",
        "cbf08fd0af284dc69718b9b76a8e6203df624d70209ea511e4219d350c856f63",
        path=".",
        cases=765,
    ),
    Suite(
        "pluggy",
        "1.7.0",
        "d1eaa46ebb595891b860ab086b4d09c8588af65ebd4361b8e8f4bb8920b90ba8",
        kept=True,
        cases=219,
    ),
    Suite(
        "tomlkit",
        "0.15.2",
        "83e32755ba1d20d9340bd069ee97e9f6232ba2346b63ffcba425de01f7e327a6",
        path=".",
        needs=("pyyaml==6.0.3",),
        cases=1203,
    ),
    Suite(
        "toolz",
        "1.2.0",
        "9667a038e9d6ecba37995e26cb2f59ec6420b6ad8dd9677de59db9b956b08490",
        path=".",
        options=(*PLAIN, "--doctest-modules", "toolz"),
        licence="BSD-3-Clause",
        cases=270,
    ),
    Suite(
        "typing-extensions",
        "4.16.0",
        "dc983d19a509c94dba722ee6abd33940f7c05a89e243c47e907eb4db6f1a43e5",
        options=(*PLAIN, "src/test_typing_extensions.py"),
        licence="PSF-2.0",
        cases=573,
    ),
)


def by_name(names: list[str]) -> list[Suite]:
    """The suites of these names, all of them for none; raises `SystemExit` for an unknown one."""
    known = {suite.name: suite for suite in SUITES}
    for name in names:
        if name not in known:
            raise SystemExit(f"there is no suite {name!r}; choose from {', '.join(known)}")
    return [known[name] for name in names] or list(SUITES)
