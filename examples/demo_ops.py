"""The tasks of onnx-ops where the bundle is this directory, as for demo.toml."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "onnx-ops"))

from ops import run_case, run_operator, run_shard

__all__ = ["run_case", "run_operator", "run_shard"]
