"""Code in the documentation is executed. Rule: a block marked in its info string does what it says.

Marks, after the language:

- `bash run`, `python run`: executed in the page's own directory; exits with 0, or with `exit=N`;
- `sql run`: executed by `dtf sql` on the database that the blocks before it have filled;
- `file=NAME` (any language): written to that file in the page's directory;
- `text output`: every line of it stands in the output of the block before, in this order; `...`
  stands for anything.

A page is one test: its blocks share a directory and a home of their own, and whatever they left
running is ended with it. A page that needs a tool says `<!-- needs: TOOL ... -->` and is skipped by
name where the tool is missing; one that uses files of the repository says `<!-- copies: PATH -->`;
one that binds a port says `<!-- port: N -->`, and a free one stands for it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]+)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
NEEDS = re.compile(r"<!-- needs: ([\w ]+) -->")
COPIES = re.compile(r"<!-- copies: (\S+) -->")
PORT = re.compile(r"<!-- port: (\d+) -->")
LIMIT_S = 120


class Block(NamedTuple):
    """A marked block of a page, with the line it starts at."""

    line: int
    language: str
    marks: dict[str, str]
    text: str


def blocks(page: Path) -> list[Block]:
    """The marked blocks of a page, in order."""
    content, found = with_free_ports(page.read_text()), []
    for match in BLOCK.finditer(content):
        language, *marks = match["info"].split()
        if marks:
            text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
            pairs = dict(mark.partition("=")[::2] for mark in marks)
            found.append(Block(content.count("\n", 0, match.start()) + 1, language, pairs, text))
    return found


def with_free_ports(text: str) -> str:
    """The text with a free port wherever it names one that it binds."""
    for port in PORT.findall(text):
        with socket.create_server(("127.0.0.1", 0)) as free:
            text = re.sub(rf"\b{port}\b", str(free.getsockname()[1]), text)
    return text


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def environment(home: Path) -> dict[str, str]:
    """Ours without settings of this machine: a home of its own, the project's programs first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DTF_")}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    kept.setdefault("NPM_CONFIG_USERCONFIG", str(Path.home() / ".npmrc"))
    return kept | {"HOME": str(home), "PATH": programs, "NO_COLOR": "1", "COLUMNS": "100"}


def command(block: Block) -> list[str]:
    if block.language == "bash":
        return ["bash", "-euo", "pipefail", "-c", block.text]
    if block.language == "python":
        return [sys.executable, "-c", block.text]
    assert block.language == "sql", f"nothing runs {block.language!r}"
    return ["dtf", "sql", block.text]


def execute(block: Block, where: Path, home: Path) -> str:
    """What the block prints, stdout and stderr together; fails when it ends otherwise than said."""
    done = subprocess.run(
        command(block),
        cwd=where,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
    )
    wanted = int(block.marks.get("exit", 0))
    assert done.returncode == wanted, f"exit {done.returncode}, wanted {wanted}:\n{done.stdout}"
    return done.stdout


def compare(wanted: str, printed: str) -> None:
    """Every wanted line stands in what was printed, in order."""
    lines = iter(printed.splitlines())
    for line in filter(None, (each.strip() for each in wanted.splitlines())):
        pattern = re.compile(re.escape(line).replace(r"\.\.\.", ".*"))
        if line != "..." and not any(pattern.search(candidate) for candidate in lines):
            raise AssertionError(f"{line!r} is not in the output:\n{printed}")


def prepared(page: Path, where: Path) -> Path:
    """The page's directory, with the files it uses; skips the test where a tool is missing."""
    text = page.read_text()
    for tool in " ".join(NEEDS.findall(text)).split():
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    where.mkdir()
    for path in COPIES.findall(text):
        shutil.copytree(ROOT / path, where / path, ignore=shutil.ignore_patterns("node_modules"))
    return where


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Ends every process that still works below the page's directory."""
    yield
    left = [process for process in psutil.process_iter() if works_below(process, tmp_path)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, timeout=10)[1]:
        process.kill()


def works_below(process: psutil.Process, directory: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(directory)
    except (psutil.Error, OSError):
        return False


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_blocks_do_what_the_page_says(page: Path, tmp_path: Path) -> None:
    where, home, printed = prepared(page, tmp_path / "work"), tmp_path / "home", ""
    home.mkdir()
    for block in blocks(page):
        try:
            if "file" in block.marks:
                (where / block.marks["file"]).parent.mkdir(parents=True, exist_ok=True)
                (where / block.marks["file"]).write_text(block.text)
            elif "run" in block.marks:
                printed = execute(block, where, home)
            elif "output" in block.marks:
                compare(block.text, printed)
        except AssertionError as error:
            error.add_note(f"{page.relative_to(ROOT)}, line {block.line}")
            raise
