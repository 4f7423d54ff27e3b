"""Without its packages an example cannot run as written, and says how to get them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dtf.worker.runners.python import CHILD

from .conftest import EXAMPLES

HIDE = """
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""


@pytest.mark.parametrize(
    ("target", "hidden", "remedy"),
    [
        ("demo_ops:run_case", "onnx", "needs onnx: pip install -r examples/requirements.txt"),
        ("demo_zoo:cell", "onnxruntime", "needs onnxruntime: pip install -r examples/"),
    ],
)
def test_a_missing_package_is_a_config_error_with_the_remedy(
    tmp_path: Path, target: str, hidden: str, remedy: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE.format(name=hidden))
    report = tmp_path / "report"
    paths = [str(tmp_path), *(path for path in sys.path if path.endswith(("src", "packages")))]
    env = {
        **os.environ,
        "DTF_REPORT": str(report),
        "DTF_BUNDLE": str(EXAMPLES),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    subprocess.run([sys.executable, "-P", CHILD, target], env=env, capture_output=True, check=False)
    (line,) = report.read_text().splitlines()
    end = json.loads(line)["end"]
    assert end["status"] == "config"
    assert remedy in end["message"]
