"""The wheel holds the whole program: built, installed somewhere else, every module imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {"tests", "docs", "examples", "benchmarks"}
IMPORT_ALL = """
import importlib, pkgutil, dtf
print(dtf.__file__)
print("dtf")
for module in pkgutil.walk_packages(dtf.__path__, "dtf."):
    importlib.import_module(module.name)
    print(module.name)
"""


def package_dirs(root: Path) -> list[Path]:
    """Every directory below `root` that is a package of ours."""
    found = []
    for directory, children, files in os.walk(root):
        here = Path(directory)
        children[:] = [c for c in children if not c.startswith((".", "__")) and c != "build"]
        if here == root:
            children[:] = [c for c in children if c not in OUTSIDE]
        if "__init__.py" in files:
            found.append(here)
    return found


def module_name(path: Path, root: Path) -> str:
    parts = ["dtf", *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree as it would be packed."""
    source = tmp_path_factory.mktemp("wheel") / "source"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", *OUTSIDE)
    shutil.copytree(ROOT, source, ignore=ignored, symlinks=True)
    return source


@pytest.fixture(scope="module")
def installed(source: Path) -> Path:
    """A fresh environment with the wheel in it; dependencies come from ours, by path."""
    work = source.parent
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", work, source, cwd=work)
    (wheel,) = work.glob("dtf-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", work / "env", cwd=work)
    python = work / "env/bin/python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=work)
    here = sysconfig.get_path("purelib")
    there = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=work)
    Path(there.strip(), "dependencies.pth").write_text(here + "\n")
    return work / "env"


def test_every_package_directory_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = [module_name(path / "__init__.py", ROOT) for path in package_dirs(ROOT)]
    assert sorted(listed) == sorted(found)


def test_every_module_of_the_wheel_imports(source: Path, installed: Path, tmp_path: Path) -> None:
    where, *imported = run(installed / "bin/python", "-I", "-c", IMPORT_ALL, cwd=tmp_path).split()
    assert where.startswith(str(installed))
    files = [file for package in package_dirs(source) for file in package.glob("*.py")]
    wanted = {module_name(file, source) for file in files}
    assert set(imported) == wanted


def test_data_files_and_types_are_in_the_wheel(source: Path, installed: Path) -> None:
    (package,) = installed.glob("lib/python*/site-packages/dtf")
    outside = {"pyproject.toml", "README.md", "Makefile", "LICENSE"}
    for directory in package_dirs(source):
        for file in directory.iterdir():
            name = file.relative_to(source)
            if file.is_file() and not file.name.startswith(".") and str(name) not in outside:
                assert (package / name).is_file(), f"{name} is missing in the wheel"


def test_console_scripts_start(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "bin/dtf", "--version", cwd=tmp_path).strip() == "dtf 0.1.0"
    for name in ("dtf", "dtf-worker", "dtf-coordinator"):
        assert "run" in run(installed / "bin" / name, "--help", cwd=tmp_path)
