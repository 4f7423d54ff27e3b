"""Configuration. Rule: every value knows where it came from, and nothing that was written is
ignored silently.

Order, strongest first: command-line flags; DTF_* variables; the project's `dtf.toml` or
`[tool.dtf]` of `pyproject.toml`, found upwards; the context in use; the user's `config.toml`; the
machine's. A context that a flag, a variable or a file names stands right below it. Credentials
belong to the server they were written with: those of a weaker source than the server's are left
out.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import platformdirs

from .contexts import ContextStore, check_settings, read_setting
from .errors import InvalidConfig
from .ids import to_name
from .pool_file import read_pool_file
from .settings import BUNDLE_BYTES_MAX, SETTINGS, TASK_VARIABLES, masked
from .tables import Table, did_you_mean, read_toml

if TYPE_CHECKING:
    from .adapters.nats_client import NatsOptions

PROJECT_FILE = "dtf.toml"
_TOOL_TABLE = re.compile(r"^\s*\[\s*tool\s*\.\s*dtf\s*[\].]", re.MULTILINE)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What this process was told. `origins` says by whom, for each setting."""

    pool: str
    publisher: str
    worker: str
    data_dir: Path
    server: str | None = None
    """None: the pool on this machine (`data_dir`)."""
    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds: Path | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    js_prefix: str = "$JS.API"
    inbox_prefix: str | None = None
    """None: a random one for each connection."""
    workers: int | None = None
    """Worker processes of the local pool; None: one for each core."""
    bundle_limit: int = BUNDLE_BYTES_MAX
    project: Path | None = None
    """Directory of the project file, where there is one."""
    user_dir: Path
    """Directory of the user's configuration and contexts."""
    context: str | None = None
    """The context that was applied."""
    origins: dict[str, str] = {}

    def __repr__(self) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value, _ in explain_config(self) if value)
        return f"Config({shown})"

    @property
    def contexts(self) -> ContextStore:
        """The user's contexts."""
        return ContextStore(self.user_dir)

    def nats_options(self, name: str) -> NatsOptions:
        """How to connect to the pool's server, as `name`.

        Without a configured server: to the pool that runs on `data_dir`; raises `ServerUnavailable`
        when none does.
        """
        from .adapters.nats_client import NatsOptions  # nats costs 0.3 s to import

        given: dict[str, Any] = {"name": name, "js_prefix": self.js_prefix}
        if self.inbox_prefix is not None:
            given["inbox_prefix"] = self.inbox_prefix
        if self.server is None:
            local = read_pool_file(self.data_dir)
            return NatsOptions(url=local.url, user=local.user, password=local.password, **given)
        keys = ("user", "password", "token", "creds", "tls_ca", "tls_cert", "tls_key")
        return NatsOptions(url=self.server, **{k: getattr(self, k) for k in keys}, **given)


class Layer(NamedTuple):
    """The settings of one source, read. `origin` names the source of a key for people."""

    origin: str
    values: Mapping[str, Any]
    context: str | None = None

    def origin_of(self, key: str) -> str:
        if self.origin == "flag":
            return f"flag --{key.replace('_', '-')}"
        if self.origin == "environment":
            return f"environment DTF_{key.upper()}"
        return self.origin


def load_config(
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    home: Path | None = None,
) -> Config:
    """The configuration in force. Flags that are None count as not given.

    `home` replaces the platform's user directories: the user's file is then
    `home/.config/dtf/config.toml`. Raises `InvalidConfig` and `NotFound` (a context that does not
    exist).
    """
    env = os.environ if env is None else env
    cwd = Path.cwd() if cwd is None else cwd.absolute()
    user_dir = _user_dir(home)
    project, layer = _project(cwd)
    sources = [_flags(flags or {}, cwd), _environment(env, cwd)]
    sources += [layer] if layer else []
    layers = list(_with_contexts(sources, ContextStore(user_dir)))
    chosen = next((each.context for each in layers if each.context), None)
    layers += _fallback_files(user_dir, home is None)
    values, origins = _merge(layers)
    defaults = _defaults(project, home)
    origins |= {key: "default" for key in defaults if key not in values}
    return Config(
        **{**defaults, **values},
        project=project,
        user_dir=user_dir,
        context=chosen,
        origins=origins,
    )


def explain_config(config: Config) -> list[tuple[str, str, str]]:
    """(setting, value, origin) of every setting; secrets are masked, an unset value is ""."""
    return [
        (key, masked(key, getattr(config, key)), config.origins.get(key, "default"))
        for key in SETTINGS
    ]


def _user_dir(home: Path | None) -> Path:
    return platformdirs.user_config_path("dtf") if home is None else home / ".config" / "dtf"


def _defaults(project: Path | None, home: Path | None) -> dict[str, Any]:
    data = platformdirs.user_data_path("dtf") if home is None else home / ".local/share/dtf"
    return {
        "pool": "main",
        "publisher": _account(),
        "worker": to_name(socket.gethostname() or "worker"),
        "data_dir": data if project is None else project / ".dtf",
    }


def _account() -> str:
    """The operating system's user as a token."""
    try:
        return to_name(getpass.getuser())
    except (KeyError, OSError):  # no entry for this user id
        return f"uid-{os.getuid()}"


def _flags(flags: Mapping[str, Any], cwd: Path) -> Layer:
    given = {key: value for key, value in flags.items() if value is not None}
    table = Table({k: v for k, v in given.items() if k != "context"}, "flag", "", InvalidConfig)
    return Layer("flag", check_settings(table, cwd), given.get("context"))


def _environment(env: Mapping[str, str], cwd: Path) -> Layer:
    """Settings from DTF_* variables.

    An empty one counts as unset; a near miss of a setting is an error.
    """
    given = {name[4:]: text for name, text in env.items() if name.startswith("DTF_") and text}
    names = {key.upper(): key for key in SETTINGS}
    for name in given:
        known = name in names or name in TASK_VARIABLES or name == "CONTEXT"
        near = did_you_mean(f"DTF_{name}", [f"DTF_{each}" for each in (*names, "CONTEXT")], 0.85)
        if not known and near:
            raise InvalidConfig(f"environment: DTF_{name} is no setting", remedy=near.strip())
    values = {}
    for name, key in names.items():
        if name in given:
            table = Table({key: given[name]}, f"environment DTF_{name}", "", InvalidConfig)
            values[key] = read_setting(table, key, cwd)
    return Layer("environment", values, given.get("CONTEXT"))


def _project(cwd: Path) -> tuple[Path | None, Layer | None]:
    """The nearest directory upwards with a project file, and its settings."""
    for directory in (cwd, *cwd.parents):
        file = directory / PROJECT_FILE
        if file.is_file():
            return directory, _file_layer(file, read_toml(file, InvalidConfig))
        file = directory / "pyproject.toml"
        if file.is_file() and _TOOL_TABLE.search(file.read_text("utf-8", "replace")):
            tool = read_toml(file, InvalidConfig).get("tool", {})
            return directory, _file_layer(file, tool.get("dtf", {}), "[tool.dtf]")
    return None, None


def _file_layer(file: Path, values: Any, place: str = "") -> Layer:
    origin = f"{file} {place}".rstrip()
    if not isinstance(values, dict):
        raise InvalidConfig(f"{origin} must be a table")
    table = Table(values, str(file), place, InvalidConfig)
    context = table.text("context") or None
    return Layer(origin, check_settings(table, file.parent, ("context",)), context)


def _with_contexts(sources: list[Layer], store: ContextStore) -> Iterator[Layer]:
    """The sources, each followed by the context it names; the first one named is the only one
    applied.
    """
    applied = None
    for source in (*sources, Layer("in use", {}, store.current())):
        yield source
        if source.context and applied is None:
            applied = source.context
            file = store.path(applied)
            table = Table(store.read(applied), str(file), "", InvalidConfig)
            yield Layer(f"context {applied} ({file})", check_settings(table, file.parent))


def _fallback_files(user_dir: Path, machine: bool) -> list[Layer]:
    files = [user_dir / "config.toml"]
    if machine:
        files.append(platformdirs.site_config_path("dtf") / "config.toml")
    return [_user_layer(file) for file in files if file.is_file()]


def _user_layer(file: Path) -> Layer:
    values = read_toml(file, InvalidConfig)
    return Layer(
        str(file), check_settings(Table(values, str(file), "", InvalidConfig), file.parent)
    )


def _merge(layers: list[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """The strongest value of each setting, and its origin."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    server_from = ""
    for layer in layers:
        for key, value in layer.values.items():
            if key in origins:
                continue
            if SETTINGS[key].credential and server_from:
                origins[key] = f"left out: {layer.origin_of(key)} has it for another server"
                continue
            values[key] = value
            origins[key] = layer.origin_of(key)
        if "server" in layer.values and not server_from:
            server_from = layer.origin
    return values, origins
