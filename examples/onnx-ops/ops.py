"""Node tests of the `onnx` wheel as tasks.

Rule: one `dtf.case` a test, and where it ran is told, not assumed.

Three sizes of task over the same tests: `run_shard` (a slice of all operators in one process),
`run_operator` (one operator, a readable matrix operator x backend), `run_case` (one test, for
thousands of short tasks).
"""

from __future__ import annotations

import importlib
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

import dtf

try:
    import ops_cases
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"examples/onnx-ops needs {error.name}: pip install -r examples/requirements.txt",
        name=error.name,
    ) from error
import ops_compare
import ops_known
from ops_cases import OpCase

BACKENDS = {"onnxruntime": "ops_onnxruntime", "openvino": "ops_openvino"}
MESSAGE_MAX = 400


def run_shard(
    shard: int = 0, shards: int = 1, backend: str = "onnxruntime", **where: str
) -> dict[str, int]:
    """The tests of every `shards`-th operator, from `shard` on, reported one by one.

    Returns counts by verdict. `where` as in `run_case`.
    """
    operators = ops_cases.shard_operators(shard, shards)
    return _run((case for name in operators for case in ops_cases.cases_of(name)), backend, where)


def run_operator(operator: str, backend: str = "onnxruntime", **where: str) -> dict[str, int]:
    """All tests of one operator, such as "conv" or "ai_onnx_ml.label_encoder"."""
    return _run(ops_cases.cases_of(operator), backend, where)


def run_case(case: str, backend: str = "onnxruntime", **where: str) -> dict[str, int]:
    """One test, such as "add/test_add_bcast".

    `where` may say `hardware`, the class the task was placed on (told by the worker otherwise), and
    `provider`, a class to ask the engine for instead.
    """
    operator, _, name = case.partition("/")
    return _run([ops_cases.find_case(operator, name)], backend, where)


def wanted_class(hardware: str = "", provider: str = "") -> str:
    """The hardware class whose provider is asked for."""
    return provider or hardware or os.environ.get("DTF_HARDWARE") or "cpu"


def _run(cases: Iterable[OpCase], backend: str, where: dict[str, str]) -> dict[str, int]:
    hardware = wanted_class(**where)
    engine = load_backend(backend)
    if engine is None:
        dtf.skip(f"{backend} is not installed: pip install {backend}")
        return {}
    if hardware not in engine.PROVIDERS:
        dtf.skip(f"{backend} has no provider for hardware {hardware!r}")
        return {}
    results = [run_one(engine, case, hardware) for case in cases]
    counts = Counter(result.verdict for result in results)
    if set(counts) == {"skipped"}:
        more = f" (and {len(results) - 1} more)" if len(results) > 1 else ""
        dtf.skip(results[0].message + more)  # nothing was tested, so nothing passed
    _report(engine, hardware, counts, results)
    return dict(counts)


def load_backend(name: str) -> ModuleType | None:
    """The backend's module, or None when its package is not installed."""
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    try:
        return importlib.import_module(BACKENDS[name])
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


@dataclass(frozen=True)
class Result:
    """What became of one test; `place` is where the engine ran it, "" when it never did."""

    verdict: str
    message: str
    place: str
    seconds: float


def run_one(engine: ModuleType, case: OpCase, hardware: str) -> Result:
    """The result of one test, reported as a case."""
    start = time.perf_counter()
    place = failure = ""
    try:
        outputs, place = engine.run(case.model, case.inputs, hardware)
        failure = ops_compare.difference(case.expected, outputs, case.rtol, case.atol)
    except Exception as error:  # a case is a boundary: whatever the backend raises is its result
        failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
    spent = time.perf_counter() - start
    verdict, message = ops_known.judge(engine.NAME, case.name, failure)
    requested = engine.PROVIDERS[hardware]
    if verdict == "passed" and place != requested:
        verdict, message = "fallback", f"asked for {requested}, ran on {place}"
    if message:
        message = f"{message[:MESSAGE_MAX]} (opset {case.opset})"
    dtf.case(f"{case.operator}/{case.name}", verdict, duration_s=spent, message=message)
    return Result(verdict, message, place, spent)


def _report(engine: ModuleType, hardware: str, counts: Counter[str], results: list[Result]) -> None:
    requested = engine.PROVIDERS[hardware]
    places = Counter(result.place for result in results if result.place)
    elsewhere = [place for place in places if place != requested]
    if places:
        sessions = ", ".join(f"{number} sessions on {place}" for place, number in places.items())
        detail = f"{engine.NAME} {engine.version()}: {sessions}"
        dtf.placed(requested, elsewhere[0] if elsewhere else requested, detail)
    for verdict, number in sorted(counts.items()):
        dtf.measure(f"cases.{verdict}", number, "cases")
    seconds = [result.seconds for result in results]
    dtf.measure("case.seconds", sum(seconds), "s", samples=seconds)
