"""Configuration: who wins, who said so, and what a wrong value is told."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from dtf.core.config import Config, explain_config, load_config
from dtf.core.contexts import ContextStore
from dtf.core.errors import InvalidConfig, InvalidName, NotFound, ServerUnavailable
from dtf.core.pool_file import (
    POOL_FILE,
    PoolFile,
    find_pool_file,
    read_pool_file,
    remove_pool_file,
    write_pool_file,
)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    directory = tmp_path / "work" / "below"
    directory.mkdir(parents=True)
    return directory


def load(tmp_path: Path, flags=None, env=None) -> Config:
    return load_config(flags or {}, env or {}, tmp_path / "work" / "below", tmp_path / "home")


def user_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "home" / ".config" / "dtf" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def origin(config: Config, key: str) -> tuple[str, str]:
    return next((value, source) for name, value, source in explain_config(config) if name == key)


def test_defaults_need_no_file(tmp_path: Path, work: Path) -> None:
    config = load(tmp_path)
    assert (config.pool, config.server, config.js_prefix) == ("main", None, "$JS.API")
    assert config.data_dir == tmp_path / "home/.local/share/dtf"
    assert config.project is None
    assert origin(config, "pool") == ("main", "default")


def test_flags_beat_environment_beats_project_beats_user(tmp_path: Path, work: Path) -> None:
    mine = user_file(tmp_path, 'pool = "user"\npublisher = "user"\nworker = "user"\nworkers = 7')
    project = tmp_path / "work" / "dtf.toml"
    project.write_text('pool = "project"\npublisher = "project"\nworker = "project"')
    env = {"DTF_POOL": "env", "DTF_PUBLISHER": "env", "DTF_SCRATCH": "/x", "HOME": "/y"}
    config = load(tmp_path, {"pool": "flag", "server": None}, env)
    assert origin(config, "pool") == ("flag", "flag --pool")
    assert origin(config, "publisher") == ("env", "environment DTF_PUBLISHER")
    assert origin(config, "worker") == ("project", str(project))
    assert origin(config, "workers") == ("7", str(mine))


def test_a_project_keeps_its_data_beside_it(tmp_path: Path, work: Path) -> None:
    (tmp_path / "work" / "dtf.toml").write_text("")
    assert load(tmp_path).data_dir == tmp_path / "work" / ".dtf"
    assert load(tmp_path, {"data_dir": "here"}).data_dir == work / "here"
    (tmp_path / "work" / "dtf.toml").write_text('data_dir = "../elsewhere"')
    assert load(tmp_path).data_dir.resolve() == (tmp_path / "elsewhere").resolve()


def test_tool_table_of_pyproject_counts_and_others_do_not(tmp_path: Path, work: Path) -> None:
    (work / "pyproject.toml").write_text("[tool.other]\nx = 1\n[broken")
    (tmp_path / "work" / "pyproject.toml").write_text('[tool.dtf]\npool = "there"')
    config = load(tmp_path)
    assert config.pool == "there"
    assert "[tool.dtf]" in config.origins["pool"]
    assert config.data_dir == tmp_path / "work" / ".dtf"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('pol = "x"', ["dtf.toml", "pol", "Did you mean 'pool'?"]),
        ('pool = "a b"', ["dtf.toml", "pool", "'a b'", "a-b-"]),
        ("pool = 3", ["dtf.toml", "pool", "3", "a name"]),
        ('server = "http://x"', ["server", "http://x", "nats://host:4222"]),
        ('server = "nats://x:99999"', ["server", "nats://x:99999"]),
        ('js_prefix = "a."', ["js_prefix", "'a.'", "dot at the end"]),
        ("workers = -1", ["workers", "-1", "0 to 1024"]),
        ('bundle_limit = "many"', ["bundle_limit", "'many'", "64M"]),
        ("password = 5", ["password", "something else"]),
        ("pool = ]", ["dtf.toml", "not valid TOML", "line 1"]),
    ],
)
def test_a_wrong_file_is_told_precisely(
    tmp_path: Path, work: Path, text: str, parts: list[str]
) -> None:
    (work / "dtf.toml").write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        load(tmp_path)
    told = f"{caught.value} {caught.value.remedy}"
    assert all(part in told for part in parts), told


def test_a_wrong_variable_or_flag_is_told_precisely(tmp_path: Path, work: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"DTF_WORKERS.*'many'"):
        load(tmp_path, env={"DTF_WORKERS": "many"})
    with pytest.raises(InvalidConfig, match=r"flag: pool.*'a b'"):
        load(tmp_path, {"pool": "a b"})
    with pytest.raises(InvalidConfig, match="DTF_SERVRE") as caught:
        load(tmp_path, env={"DTF_SERVRE": "nats://x"})
    assert "DTF_SERVER" in caught.value.remedy
    assert load(tmp_path, env={"DTF_SOMETHING_ELSE": "1", "DTF_POOL": ""}).pool == "main"


def test_numbers_and_addresses_are_read_from_text(tmp_path: Path, work: Path) -> None:
    config = load(
        tmp_path,
        env={"DTF_WORKERS": "3", "DTF_BUNDLE_LIMIT": "1G", "DTF_SERVER": "a:4222,tls://b"},
    )
    assert (config.workers, config.bundle_limit) == (3, 1 << 30)
    assert config.server == "nats://a:4222,tls://b"


def test_local_overrides_a_configured_server(tmp_path: Path, work: Path) -> None:
    (work / "dtf.toml").write_text('server = "nats://far"')
    config = load(tmp_path, {"server": "local"})
    assert config.server is None
    assert origin(config, "server") == ("", "flag --server")


def test_secrets_are_masked_everywhere(tmp_path: Path, work: Path) -> None:
    flags = {"password": "hush", "token": "sesame", "server": "nats://me:hush@host"}
    config = load(tmp_path, flags)
    assert config.password == "hush"
    told = repr(config) + repr(explain_config(config))
    assert "hush" not in told
    assert "sesame" not in told
    assert "nats://********@host" in told


def test_credentials_are_not_sent_to_another_server(tmp_path: Path, work: Path) -> None:
    user_file(tmp_path, 'server = "nats://mine"\nuser = "me"\npassword = "hush"')
    assert load(tmp_path).password == "hush"
    other = load(tmp_path, {"server": "nats://other"})
    assert other.password is None
    assert other.user is None
    assert "another server" in other.origins["password"]


def test_a_context_stands_right_below_what_named_it(tmp_path: Path, work: Path) -> None:
    store = load(tmp_path).contexts
    store.add("prod", {"server": "nats://prod", "pool": "prod", "password": "hush"})
    store.add("lab", {"server": "nats://lab", "pool": "lab"})
    (work / "dtf.toml").write_text('pool = "project"')
    env = {"DTF_POOL": "env"}
    assert load(tmp_path, {"context": "prod"}, env).pool == "prod"
    assert load(tmp_path, env={"DTF_CONTEXT": "prod", **env}).pool == "env"
    assert load(tmp_path, env={"DTF_CONTEXT": "prod"}).pool == "prod"
    store.use("lab")
    config = load(tmp_path)
    assert (config.pool, config.server, config.context) == ("project", "nats://lab", "lab")
    assert "context lab" in config.origins["server"]
    assert load(tmp_path, {"context": "prod"}).context == "prod"
    with pytest.raises(NotFound) as caught:
        load(tmp_path, {"context": "prd"})
    assert "'prod'" in caught.value.remedy


def test_context_files_are_private_and_checked(tmp_path: Path) -> None:
    store = ContextStore(tmp_path)
    path = store.add("a", {"server": "nats://x", "password": 'q"\\\u00e9\x7f', "creds": None})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.read("a")["password"] == 'q"\\\u00e9\x7f'
    assert store.show("a") == {"server": "nats://x", "password": "********"}
    assert store.validate("a") == []
    path.chmod(0o644)
    assert "chmod 600" in store.validate("a")[0]
    with pytest.raises(InvalidConfig):
        store.add("a", {"server": "nats://y"})
    with pytest.raises(InvalidConfig, match="pol"):
        store.add("b", {"pol": "x"})
    with pytest.raises(InvalidName):
        store.add("../b", {})
    store.add("a", {"creds": "/nowhere.creds"}, replace=True)
    problems = store.validate("a")
    assert len(problems) == 2
    assert any("names no server" in problem for problem in problems)
    assert any("/nowhere.creds" in problem for problem in problems)


def test_contexts_are_listed_used_and_removed(tmp_path: Path) -> None:
    store = ContextStore(tmp_path)
    assert (store.names(), store.current()) == ([], None)
    store.add("b", {"server": "nats://b"})
    store.add("a", {"server": "nats://a"})
    store.use("b")
    assert (store.names(), store.current()) == (["a", "b"], "b")
    store.remove("b")
    assert (store.names(), store.current()) == (["a"], None)
    with pytest.raises(NotFound):
        store.use("b")


def test_the_local_pool_is_found_by_its_file(tmp_path: Path) -> None:
    import os

    with pytest.raises(ServerUnavailable) as caught:
        read_pool_file(tmp_path)
    assert "dtf up" in caught.value.remedy
    pool = PoolFile(url="nats://127.0.0.1:5", user="u", password="hush", pid=os.getpid())
    path = write_pool_file(tmp_path, pool)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_pool_file(tmp_path) == pool
    assert "hush" not in repr(pool)
    remove_pool_file(tmp_path, pid=1)
    assert path.exists()
    remove_pool_file(tmp_path, pid=os.getpid())
    assert not path.exists()


def test_a_stale_pool_file_counts_as_none(tmp_path: Path) -> None:
    import subprocess
    import sys

    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    write_pool_file(tmp_path, PoolFile(url="nats://127.0.0.1:5", pid=child.pid))
    assert find_pool_file(tmp_path) is None
    (tmp_path / POOL_FILE).write_bytes(b"{")
    assert find_pool_file(tmp_path) is None


def test_nats_options_carry_the_settings(tmp_path: Path, work: Path) -> None:
    flags = {
        "server": "nats://h",
        "user": "u",
        "password": "p",
        "js_prefix": "X.API",
        "inbox_prefix": "_I",
    }
    options = load(tmp_path, flags).nats_options("me")
    assert (options.url, options.user, options.password) == ("nats://h", "u", "p")
    assert (options.js_prefix, options.inbox_prefix, options.name) == ("X.API", "_I", "me")
    assert load(tmp_path, {"server": "h"}).nats_options("x").inbox_prefix.startswith("_INBOX_")
