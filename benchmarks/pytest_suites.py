"""The suites that pytest is measured with. Rule: what they hold is written here, never random."""

from __future__ import annotations

from pathlib import Path

SLEEPS_MS = (
    [12, 15, 18, 20, 22, 25, 28, 30, 32, 35] * 7
    + [40, 45, 50, 55, 60, 65, 70, 75, 80, 85] * 2
    + [300, 350, 400, 450, 500, 550, 600, 650, 700, 672]
)
"""100 durations, 8.08 s together, the long ones last."""
SLEEPS_S = sum(SLEEPS_MS) / 1000
MODEL_CONFTEST = """
from pathlib import Path

import numpy
import onnxruntime
import pytest

DATA = Path(onnxruntime.__file__).parent / "datasets"
SESSION = onnxruntime.InferenceSession(DATA / "sigmoid.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture
def session():
    return SESSION
"""
MODEL_TESTS = """
import numpy
import pytest


@pytest.mark.parametrize("seed", range(5))
def test_sigmoid(session, seed):
    x = numpy.random.default_rng(seed).random((3, 4, 5), dtype=numpy.float32)
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    assert numpy.allclose(y, 1 / (1 + numpy.exp(-x)), atol=1e-6)
"""


def _files(where: Path, files: dict[str, str]) -> Path:
    where.mkdir(parents=True, exist_ok=True)
    for name, text in {"pytest.ini": "[pytest]\n", **files}.items():
        (where / name).write_text(text)
    return where


def trivial(where: Path, tests: int = 2000, files: int = 50) -> Path:
    """`tests` tests that do nothing, in `files` files."""
    each = tests // files
    text = "\n\n".join(f"def test_{n}():\n    assert True\n" for n in range(each))
    return _files(where, {f"test_{n:03d}.py": text for n in range(files)})


def sleeping(where: Path) -> Path:
    """One test a duration of `SLEEPS_MS`, ten in each file, in that order."""
    texts = {}
    for first in range(0, len(SLEEPS_MS), 10):
        tests = [
            f"def test_{first + n:03d}():\n    time.sleep({ms / 1000})\n"
            for n, ms in enumerate(SLEEPS_MS[first : first + 10])
        ]
        texts[f"test_{first:03d}.py"] = "import time\n\n\n" + "\n\n".join(tests)
    return _files(where, texts)


def with_model(where: Path) -> Path:
    """Ten tests in two files whose conftest imports numpy and onnxruntime and loads a model."""
    tests = {f"test_{name}.py": MODEL_TESTS for name in ("a", "b")}
    return _files(where, {"conftest.py": MODEL_CONFTEST, **tests})


def single(where: Path) -> Path:
    """One test that does nothing."""
    return _files(where, {"test_one.py": "def test_one():\n    assert True\n"})
