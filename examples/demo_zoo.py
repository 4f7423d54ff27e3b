"""The task of tiny-zoo where the bundle is this directory, as for demo.toml."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tiny-zoo"))

from zoo import cell

__all__ = ["cell"]
