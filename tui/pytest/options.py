"""What the command line and the ini file ask of `pytest --dtf`. Rule: what cannot work on a pool is
refused before anything starts, with the word to use instead.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

SPLITS = ("auto", "case", "file", "class", "module", "group", "shard")
ISOLATIONS = ("none", "shard", "file", "case")
LOCAL = (
    "collectonly",
    "showfixtures",
    "show_fixtures_per_test",
    "markers",
    "setupplan",
    "setuponly",
    "setupshow",
    "cacheshow",
    "help",
    "version",
)
"""Options that are about this process: with them `--dtf` changes nothing."""
CLIENT = frozenset(
    {
        "dtf", "dtf_server", "dtf_workers", "dtf_split", "dtf_isolation", "dtf_hardware",
        "dtf_timeout", "dtf_bundle", "dtf_env",
        "maxfail", "lf", "failedfirst", "newfirst", "last_failed_no_failures", "cacheclear",
        "stepwise", "stepwise_skip", "stepwise_reset",
        "xmlpath", "junitprefix", "durations", "durations_min", "pastebin", "reportchars", "color",
        "code_highlight", "no_header", "no_summary", "fold_skipped", "max_warnings",
        "file_or_dir", "pyargs", "inifilename", "rootdir", "basetemp", "debug", "traceconfig",
        "keepduplicates", "ignore", "ignore_glob", "collect_in_virtualenv",
    }
)  # fmt: skip
"""Options (by destination) that concern the client alone and are not sent to workers."""
TRAVELLERS = (
    "PATH", "PYTHONPATH", "VIRTUAL_ENV", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ",
    "CI", "BUILD_NUMBER", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "TERM",
)  # fmt: skip
"""Variables a local pool takes from this shell, since it may have been started from another."""
ANCHORS_MAX = 50
"""Most directories of the command line that workers are told."""
_INSTEAD = "use --dtf-workers N: the pool shares the tests out by itself"


class Wishes(NamedTuple):
    """What was asked for, checked."""

    server: str | None
    workers: int | None
    split: str
    isolation: str
    hardware: str
    timeout_s: float | None
    bundle: bool
    env: dict[str, str]
    preload: list[str]
    suite: str


def wanted(namespace: argparse.Namespace) -> bool:
    """Whether this run goes to the pool; `--co`, `--fixtures` and their like stay here."""
    return not any(getattr(namespace, name, False) for name in LOCAL)


def demand_possible(namespace: argparse.Namespace, args: Sequence[str]) -> None:
    """Raises `pytest.UsageError` for options that contradict `--dtf`."""
    for token in args:
        name = token.partition("=")[0]
        xdist = name in ("-n", "--numprocesses", "--dist", "--tx", "--maxprocesses")
        if xdist or (token[:2] == "-n" and token[2:].isdigit()):
            if token in ("--dist=no", "-n0", "-n=0"):
                continue
            raise pytest.UsageError(
                f"{name} is of pytest-xdist and cannot go with --dtf; {_INSTEAD}"
            )
    if getattr(namespace, "usepdb", False) or getattr(namespace, "trace", False):
        raise pytest.UsageError(
            "--pdb and --trace need the test in this process; leave out --dtf and name the test"
        )
    if getattr(namespace, "stepwise", False) or getattr(namespace, "stepwise_skip", False):
        raise pytest.UsageError(
            "--stepwise needs one order of all tests, which a pool does not have; use --lf -x"
        )


def read_wishes(config: pytest.Config) -> Wishes:
    """The wishes of command line and ini file. Raises `pytest.UsageError`, naming the value."""
    option = config.known_args_namespace
    split = option.dtf_split or config.getini("dtf_split")
    if split not in SPLITS:
        raise pytest.UsageError(
            f"--dtf-split (dtf_split) must be one of {', '.join(SPLITS)}, got {split!r}"
        )
    isolation = option.dtf_isolation or "none"
    if isolation not in ISOLATIONS:
        known = ", ".join(ISOLATIONS)
        raise pytest.UsageError(f"--dtf-isolation must be one of {known}, got {isolation!r}")
    workers = option.dtf_workers
    if workers is None:
        workers = _ini_workers(str(config.getini("dtf_workers")))
    if workers is not None and not 1 <= workers <= 1024:
        raise pytest.UsageError(f"--dtf-workers must be 1 to 1024, got {workers}")
    timeout = option.dtf_timeout
    if timeout is not None and not 0 < timeout < 2**30:
        raise pytest.UsageError(f"--dtf-timeout must be a number of seconds, got {timeout}")
    return Wishes(
        server=option.dtf_server,
        workers=workers,
        split=split,
        isolation=isolation,
        hardware=_hardware(option.dtf_hardware or "cpu"),
        timeout_s=timeout,
        bundle=bool(option.dtf_bundle),
        env=_named_variables([*config.getini("dtf_env"), *(option.dtf_env or ())]),
        preload=list(config.getini("dtf_preload")),
        suite=config.getini("dtf_suite") or config.rootpath.name or "root",
    )


def _ini_workers(text: str) -> int | None:
    if not text or text == "auto":
        return None
    if not text.isascii() or not text.isdigit():
        raise pytest.UsageError(f"dtf_workers must be a whole number or auto, got {text!r}")
    return int(text)


def _hardware(word: str) -> str:
    if word == "cpu":
        return word
    from ...core.model import HARDWARE

    if word not in HARDWARE:
        raise pytest.UsageError(
            f"--dtf-hardware must be one of {', '.join(HARDWARE)}, got {word!r}"
        )
    return word


def _named_variables(names: Sequence[str]) -> dict[str, str]:
    """The named variables as they stand here; `NAME=value` gives one."""
    found: dict[str, str] = {}
    for each in names:
        name, given, value = each.partition("=")
        if not name.isidentifier():
            raise pytest.UsageError(f"--dtf-env needs the name of a variable, got {each!r}")
        if given:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def shell_variables(environ: Mapping[str, str], first: Sequence[str], here: str) -> dict[str, str]:
    """What a pool of this machine takes from this shell. `first` is the head of `sys.path`:
    `python -m pytest` imports from the directory it is called in, `pytest` does not.
    """
    found = {name: environ[name] for name in TRAVELLERS if name in environ}
    if any(each in ("", here) for each in first):
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (here, found.get("PYTHONPATH"))))
    return found


def worker_args(
    tokens: Sequence[str], actions: Mapping[str, argparse.Action], config: pytest.Config
) -> list[str]:
    """The options workers start pytest with: positions and the client's own left out; paths are
    relative to the directory of invocation, and `addopts` is part of `tokens` already.
    """
    kept = [token for dest, group in options_of(tokens, actions) if dest not in CLIENT
            for token in group]  # fmt: skip
    here = config.invocation_params.dir
    head = ["-o", "addopts=", f"--rootdir={_relative(config.rootpath, here)}"]
    if config.inipath is not None:
        head += ["-c", _relative(config.inipath, here)]
    return [*head, *kept, *_anchors(config, here)]


def _anchors(config: pytest.Config, here: Path) -> list[str]:
    """The directories that were named: conftests there are loaded before options are read."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS or config.option.pyargs:
        return []
    found: dict[str, None] = {}
    for argument in config.args:
        path = here / argument.partition("::")[0]
        folder = path if path.is_dir() else path.parent
        found[_relative(folder, here)] = None
    return list(found)[:ANCHORS_MAX]


def _relative(path: Path, here: Path) -> str:
    return os.path.relpath(path, here)


def options_of(
    tokens: Sequence[str], actions: Mapping[str, argparse.Action]
) -> Iterator[tuple[str, list[str]]]:
    """(destination, tokens) of every option in order, as argparse would read them; unknown ones
    have the destination "" and no values.
    """
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token == "--":  # noqa: S105
            return
        if len(token) < 2 or token[0] != "-":
            continue
        if token[1] != "-" and token[:2] in actions:
            *flags, token = _ungrouped(token, actions)
            for flag in flags:
                yield actions[flag].dest, [flag]
        name, attached = token.partition("=")[0], "=" in token
        if token[1] != "-":
            name, attached = token[:2], len(token) > 2
        action = actions.get(name)
        count = 0 if attached or action is None else _values(action, tokens[at:])
        yield action.dest if action else "", [token, *tokens[at : at + count]]
        at += count


def _ungrouped(token: str, actions: Mapping[str, argparse.Action]) -> list[str]:
    """`-xvs` as `-x`, `-v`, `-s`; `-kword` and `-vkword` keep their value attached."""
    parts = []
    while len(token) > 2 and actions[token[:2]].nargs == 0 and "-" + token[2] in actions:
        parts.append(token[:2])
        token = "-" + token[2:]
    return [*parts, token]


def _values(action: argparse.Action, rest: Sequence[str]) -> int:
    """How many of the tokens that follow are the option's values."""
    if action.nargs is None:
        return 1
    if isinstance(action.nargs, int):
        return action.nargs
    free = next((n for n, each in enumerate(rest) if each.startswith("-")), len(rest))
    return min(free, 1) if action.nargs == "?" else free
