"""The warm program's first lines. Rule: nothing of it lands on the module path of a test.

Started by path with `-P`; argument: the descriptor of its control socket. Its package goes by a
name of its own, so that neither `warm` nor `dtf` of a test is shadowed by it.
"""

import os
import sys


def load() -> None:
    """The package beside this file can be imported as `_dtf_warm`."""
    import importlib.util

    folder = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        "_dtf_warm", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None
    sys.modules["_dtf_warm"] = importlib.util.module_from_spec(spec)


if __name__ == "__main__":
    before = {name.partition(".")[0] for name in sys.modules}
    load()
    from _dtf_warm import work  # type: ignore[import-not-found]
    from _dtf_warm.serve import Program  # type: ignore[import-not-found]

    work.BEFORE_US.update(before)

    Program(int(sys.argv[1])).serve()
