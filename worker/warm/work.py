"""What a warm process can prepare and run, by the kind of the payload. Rule: a runner is loaded by
path, and only when a payload asks for it.
"""

from __future__ import annotations

import os
import sys
import traceback

TYPE_CHECKING = False  # importing typing takes 4 ms
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

RUNNERS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "runners")
PROBLEM = 70
"""Exit status of work whose preparation failed (EX_SOFTWARE)."""
_runners: dict[str, ModuleType] = {}


def runner(kind: str) -> ModuleType:
    """The runner's module, loaded once. Raises ValueError for an unknown kind."""
    if kind not in _runners:
        if kind == "python":
            _runners[kind] = load("_dtf_child", os.path.join(RUNNERS, "child.py"))
        elif kind == "pytest":
            folder = os.path.join(RUNNERS, "pytest")
            load("_dtf_pytest", os.path.join(folder, "__init__.py"), folder)
            _runners[kind] = load("_dtf_pytest.entry", os.path.join(folder, "entry.py"))
        else:
            raise ValueError(f"work of an unknown kind: {kind!r}; known are 'python' and 'pytest'")
    return _runners[kind]


def load(name: str, path: str, package: str = "") -> ModuleType:
    """The module at the path, under a name of its own; `package` is its folder if it is one."""
    import importlib.util

    where = [package] if package else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=where)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Work:
    """What was prepared in this process. A clone has it too."""

    def __init__(self) -> None:
        self.problem = ""
        """Why what was prepared last cannot be run; "" while it can."""
        self._kind = ""
        self._state: Any = None

    def prepare(self, payload: dict[str, Any]) -> str:
        """What went wrong, or "". A module that cannot be imported stops nobody."""
        self.problem = ""
        if payload["kind"] == "import":
            return self._import(payload)
        try:
            self._kind = payload["kind"]
            self._state = runner(self._kind).prepare(payload)
        except BaseException as error:  # the boundary: the suite's own code ran
            self.problem = "".join(traceback.format_exception(error))
        return self.problem

    def _import(self, payload: dict[str, Any]) -> str:
        """Modules and runners are loaded, as far as they can be; and those that could not."""
        import importlib

        sys.path[:0] = payload.get("path", [])
        if "python" in payload.get("runners", []):
            rehearse()
        IMPORTED_FOR_US.update(top_level() - BEFORE_US)
        problems = []
        for name in payload.get("modules", []):
            try:
                importlib.import_module(name)
            except BaseException as error:  # the boundary: a module runs code when it is imported
                text = "".join(traceback.format_exception_only(error)).strip()
                problems.append(f"preload {name!r}: {text}")
        return "; ".join(problems)

    def warm(self, files: list[str]) -> str:
        """What went wrong, or ""."""
        try:
            runner(self._kind).warm(self._state, files)
        except BaseException as error:  # the boundary: test modules are imported
            return "".join(traceback.format_exception(error))
        return ""

    def forbids_clones(self) -> str:
        """Why what was prepared must not be cloned, or "": a session that ends once, say."""
        if self._kind != "pytest" or self.problem or self._state is None:
            return ""
        return str(runner(self._kind).forbids_clones(self._state))

    def run(self, order: dict[str, Any]) -> int:
        """The exit status of the work."""
        if self.problem:
            sys.stderr.write(self.problem)
            return PROBLEM
        work = order["work"]
        try:
            if work["kind"] == "python":
                return run_python(work)
            return int(runner(work["kind"]).run(self._state, work, order))
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException as error:  # the boundary: whatever a test made of its runner
            traceback.print_exception(error)
            return 1

    def close(self) -> None:
        """What the work has set up is torn down."""
        state, self._state = self._state, None
        if state is None:
            return
        try:
            runner(self._kind).close(state)
        except BaseException as error:  # the boundary: fixtures of the suite
            traceback.print_exception(error)


def run_python(work: dict[str, Any]) -> int:
    """The exit status of a Python task; what it ended as it has reported itself."""
    child = runner("python")
    sys.argv = [str(child.__file__), work["target"]]
    unshadow(os.environ.get("DTF_BUNDLE") or os.getcwd())
    return int(child.main())


def rehearse() -> None:
    """What every Python task does once has been done: where modules lie is known. A clone then
    writes to fewer of the pages it shares.
    """
    import json

    child = runner("python")
    for _ in range(10):
        json.loads(json.dumps({"rehearsed": []}))
        child.load("_dtf_no_such_module:f")


def unshadow(folder: str) -> None:
    """A module of the task that has the name of one that was imported only for us comes first, as
    it would in a fresh interpreter.
    """
    try:
        names = {name.removesuffix(".py") for name in os.listdir(folder)}
    except OSError:
        return
    ours = names & IMPORTED_FOR_US
    for name in [n for n in sys.modules if n.partition(".")[0] in ours] if ours else ():
        del sys.modules[name]


def top_level() -> set[str]:
    """Names of the modules that are imported, without what is below them."""
    return {name.partition(".")[0] for name in sys.modules}


BEFORE_US: set[str] = set()
"""Top-level modules a fresh interpreter has at its start; set by the program's first lines."""
IMPORTED_FOR_US: set[str] = set()
"""Top-level modules that a fresh interpreter would not have imported yet."""
