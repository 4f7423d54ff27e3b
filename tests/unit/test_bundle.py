"""Bundles: the same tree makes the same bytes, git's rules hold, and nothing is written outside."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from dtf.core import bundle
from dtf.core.bundle import PackedBundle, pack, unpack
from dtf.core.errors import BundleTooLarge, BundleUnsafe, InvalidSuite
from dtf.core.gitignore import ALWAYS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "tree"
    directory.mkdir()
    return directory


def fill(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def packed(root: Path, tmp_path: Path, limit: int = 1 << 26, **more) -> PackedBundle:
    return pack(root, limit, cache_dir=tmp_path / "cache", **more)


def listing(root: Path) -> dict[str, tuple]:
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_file():
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
    return found


def test_what_is_packed_comes_out_the_same(root: Path, tmp_path: Path) -> None:
    fill(root, {"a.py": "print(1)", "deep/er/b.bin": bytes(range(256)), "run.sh": "#!", "e": ""})
    (root / "run.sh").chmod(0o755)
    (root / "a.py").chmod(0o600)
    (root / "deep" / "link").symlink_to("../a.py")
    (root / "dirlink").symlink_to("deep/er")
    (root / "dangling").symlink_to("nowhere")
    (root / "empty").mkdir()
    os.mkfifo(root / "fifo")
    made = packed(root, tmp_path)
    digest = hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert made.digest == f"sha256:{digest}"
    assert made.files == [
        "a.py",
        "dangling",
        "deep/er/b.bin",
        "deep/link",
        "dirlink",
        "e",
        "run.sh",
    ]
    assert made.bytes == 8 + 256 + 2
    into = tmp_path / "out"
    unpack(made.path, into)
    expected = listing(root)
    assert listing(into) == expected
    assert stat.S_IMODE((into / "a.py").stat().st_mode) == 0o644
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


NAMES = st.sampled_from(["a", "b", "c.py", "d e", "é", "x" * 120, "-", "#"])
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=300), max_size=8
).filter(lambda t: not any(o != n and o.startswith(f"{n}/") for n in t for o in t))
SLOW = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SLOW
@given(tree=TREES, executable=st.sets(st.integers(0, 7)))
def test_any_tree_round_trips_and_its_digest_is_of_its_content(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, bytes], executable: set[int]
) -> None:
    base = tmp_path_factory.mktemp("bundle")
    for name, order in (("one", list(tree)), ("two", list(reversed(tree)))):
        fill(base / name, {each: tree[each] for each in order})
        (base / name).mkdir(exist_ok=True)
        for index, each in enumerate(tree):
            (base / name / each).chmod(0o755 if index in executable else 0o644)
            os.utime(base / name / each, (len(name) * 1000, hash(name) % 100_000))
    one, two = packed(base / "one", base), packed(base / "two", base)
    assert (one.digest, one.files) == (two.digest, two.files)
    unpack(one.path, base / "out")
    assert listing(base / "out") == listing(base / "one")
    shutil.rmtree(base)


def test_content_mode_name_and_link_change_the_digest(root: Path, tmp_path: Path) -> None:
    fill(root, {"a": "1", "b": "2"})
    digests = [packed(root, tmp_path).digest]
    for change in (
        lambda: (root / "a").write_text("3"),
        lambda: (root / "a").chmod(0o755),
        lambda: (root / "a").rename(root / "c"),
        lambda: (root / "l").symlink_to("b"),
        lambda: ((root / "l").unlink(), (root / "l").symlink_to("c")),
    ):
        change()
        digests.append(packed(root, tmp_path).digest)
    assert len(set(digests)) == len(digests)


def test_nothing_is_read_again_when_nothing_changed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root, {"a": "1", "b/c": "2"})
    monkeypatch.setattr(bundle, "SETTLED_NS", 0)
    first = packed(root, tmp_path)
    monkeypatch.setattr(bundle, "_write", None)
    assert packed(root, tmp_path) == first
    monkeypatch.undo()
    (root / "a").write_text("3")
    assert packed(root, tmp_path).digest != first.digest
    first.path.unlink()
    (root / "a").write_text("1")
    assert packed(root, tmp_path).digest == first.digest


def test_a_file_that_may_still_be_written_is_not_believed(root: Path, tmp_path: Path) -> None:
    fill(root, {"a": "1"})
    packed(root, tmp_path)
    assert list((tmp_path / "cache").glob("*.json")) == []


def test_old_archives_are_forgotten(root: Path, tmp_path: Path) -> None:
    for number in range(bundle.KEPT + 5):
        (root / "a").write_text(str(number))
        newest = packed(root, tmp_path)
    kept = list((tmp_path / "cache").glob("*.tar.gz"))
    assert len(kept) == bundle.KEPT + 1
    assert newest.path in kept


def test_a_tree_beyond_the_limit_names_its_biggest(root: Path, tmp_path: Path) -> None:
    fill(root, {"data/big.bin": bytes(5000), "data/small": bytes(10), "model.bin": bytes(3000)})
    with pytest.raises(BundleTooLarge) as caught:
        packed(root, tmp_path, 4000)
    told = str(caught.value)
    for part in (
        "7.8 KiB",
        "3.9 KiB",
        "data/ 4.9 KiB",
        "data/big.bin 4.9 KiB",
        "model.bin 2.9 KiB",
    ):
        assert part in told, told
    assert ".gitignore" in caught.value.remedy
    assert "limit" in caught.value.remedy
    assert packed(root, tmp_path, 4000, exclude=["*.bin"]).files == ["data/small"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside", "up/x"])
def test_a_link_that_leaves_the_tree_is_refused(root: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").mkdir()
    (root / "sub").mkdir()
    if target == "up/x":
        (root / "sub" / "up").symlink_to("..")
        (root / "up").symlink_to("sub/up/..")
        target = "sub/up/../outside"
    (root / "link").symlink_to(target)
    with pytest.raises(InvalidSuite, match="link to") as caught:
        packed(root, tmp_path)
    assert "Copy what it points to" in caught.value.remedy
    (root / ".gitignore").write_text("link\nup\n")
    assert "link" not in packed(root, tmp_path).files


def test_what_cannot_be_packed_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidSuite, match="no directory"):
        packed(tmp_path / "nowhere", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user who is not root: root reads all files")
def test_an_unreadable_file_is_told(root: Path, tmp_path: Path) -> None:
    fill(root, {"a": "1"})
    (root / "a").chmod(0)
    with pytest.raises(InvalidSuite, match="cannot be read"):
        packed(root, tmp_path)


def test_git_rules_of_the_repository_around_hold(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            ".git/info/exclude": "private\n",
            ".gitignore": "*.log\n/suites/tmp/\n!keep.log\n",
            "suites/.gitignore": "/local\n*.bin\n",
            "suites/zoo/.gitignore": "!model.bin\n",
            "suites/zoo/model.bin": "",
            "suites/zoo/other.bin": "",
            "suites/zoo/a.log": "",
            "suites/zoo/keep.log": "",
            "suites/zoo/private": "",
            "suites/zoo/local": "",
            "suites/zoo/__pycache__/x.pyc": "",
            "suites/zoo/.venv/bin/python": "",
            "suites/tmp/x": "",
        },
    )
    kept = packed(tmp_path / "suites" / "zoo", tmp_path).files
    assert kept == [".gitignore", "keep.log", "local", "model.bin"]
    kept = packed(tmp_path / "suites", tmp_path, exclude=["zoo/keep.log", "!*.log"]).files
    assert "zoo/a.log" in kept
    assert "tmp/x" not in kept


PIECES = st.sampled_from(["a", "b", "*", "?", "a*", "**", "[ab]", "[!a]", "c.py", "*.py"])
LINES = st.builds(
    lambda negated, anchored, pieces, only_dirs: (
        ("!" if negated else "") + ("/" if anchored else "") + "/".join(pieces) + only_dirs
    ),
    st.booleans(),
    st.booleans(),
    st.lists(PIECES, min_size=1, max_size=3),
    st.sampled_from(["", "", "/", " "]),
)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "c.py"]), min_size=1, max_size=4).map("/".join)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@SLOW
@given(
    paths=st.sets(PATHS, min_size=1, max_size=8),
    rules=st.dictionaries(st.sampled_from(["", "a/", "b/", "a/b/"]), st.lists(LINES, max_size=4)),
)
def test_git_agrees_about_what_is_ignored(
    tmp_path_factory: pytest.TempPathFactory, paths: set[str], rules: dict[str, list[str]]
) -> None:
    base = tmp_path_factory.mktemp("git")
    tree = base / "tree"
    tree.mkdir()
    files = {path for path in paths if not any(o.startswith(f"{path}/") for o in paths)}
    fill(tree, dict.fromkeys(files, ""))
    for directory, lines in rules.items():
        if (tree / directory).is_dir():
            fill(tree, {f"{directory}.gitignore": "\n".join(["# comment", "", *lines])})
    env = {"PATH": os.environ["PATH"], "HOME": str(base), "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*words: str) -> bytes:
        command = ["git", "-C", str(tree), *words]
        return subprocess.run(command, env=env, check=True, capture_output=True).stdout

    git("init", "-q")
    listed = git("ls-files", "-z", "--others", "--exclude-standard").split(b"\0")
    expected = sorted(name.decode() for name in listed if name)
    assert packed(tree, base).files == expected
    shutil.rmtree(base)


def test_names_that_are_never_shipped(root: Path, tmp_path: Path) -> None:
    fill(root, {f"x/{name}/y": "" for name in ALWAYS} | {"x/kept": ""})
    (root / "x" / ".gitignore").write_text("!.venv\n")
    assert packed(root, tmp_path).files == ["x/.gitignore", "x/kept"]


def archive(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                about = tarfile.TarInfo(member[0])
                about.size = len(member[1])
                tar.addfile(about, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type, about.linkname = kind, target
    return about


HOSTILE = {
    "absolute": [("/evil", b"x")],
    "parent": [("../evil", b"x")],
    "hidden parent": [("a/../../evil", b"x")],
    "dot": [("./a", b"x")],
    "backslash": [("..\\evil", b"x")],
    "link out": [special("l", tarfile.SYMTYPE, "../evil")],
    "absolute link": [special("l", tarfile.SYMTYPE, "/etc/passwd")],
    "write through a link": [special("l", tarfile.SYMTYPE, "d"), ("l/x", b"x")],
    "link below a link": [
        special("d/up", tarfile.SYMTYPE, ".."),
        special("d/up/l", tarfile.SYMTYPE, "x"),
    ],
    "links that leave together": [
        special("d/up", tarfile.SYMTYPE, ".."),
        special("l", tarfile.SYMTYPE, "d/up/../evil"),
    ],
    "hard link": [special("l", tarfile.LNKTYPE, "/etc/passwd")],
    "device": [special("null", tarfile.CHRTYPE)],
    "pipe": [special("pipe", tarfile.FIFOTYPE)],
    "twice": [("a", b"1"), ("a", b"2")],
    "link over a file": [("a", b"1"), special("a", tarfile.SYMTYPE, "b")],
    "empty name": [("", b"x")],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_writes_nothing(tmp_path: Path, members: list) -> None:
    path = archive(tmp_path / "evil.tar.gz", ("fine", b"1"), *members)
    with pytest.raises(BundleUnsafe):
        unpack(path, tmp_path / "in" / "out")
    assert list((tmp_path / "in").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_a_damaged_archive_writes_nothing(root: Path, tmp_path: Path) -> None:
    fill(root, {"a": os.urandom(20_000), "b": "1"})
    whole = packed(root, tmp_path).path.read_bytes()
    for data in (b"", b"garbage", whole[: len(whole) // 2], whole[:-3], whole[:30] + whole[60:]):
        (tmp_path / "broken").write_bytes(data)
        with pytest.raises(BundleUnsafe):
            unpack(tmp_path / "broken", tmp_path / "in" / "out")
        assert list((tmp_path / "in").iterdir()) == []


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "bomb.tar.gz", ("a", bytes(10_000)), ("b", bytes(10_000)))
    with pytest.raises(BundleUnsafe, match="more than 15000 bytes"):
        unpack(path, tmp_path / "in" / "out", bytes_max=15_000)
    assert list((tmp_path / "in").iterdir()) == []


def test_many_may_unpack_at_once(root: Path, tmp_path: Path) -> None:
    fill(root, {f"d{n}/{m}": str(n * m) for n in range(5) for m in range(20)})
    path, into = packed(root, tmp_path).path, tmp_path / "out"
    into.mkdir()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            unpack(path, into)
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert listing(into) == listing(root)
    assert {entry.name for entry in tmp_path.iterdir()} == {"tree", "cache", "out"}
