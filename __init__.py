"""dtf runs tests of AI models on many machines and can prove afterwards what happened.

The names here are for code that runs inside a task; everything else is reached through the `dtf`
command.
"""

from .core.report import case, measure, params, placed, skip

__version__ = "0.1.0"
__all__ = ["__version__", "case", "measure", "params", "placed", "skip"]
