"""Cells of the matrix model x backend x batch x precision.

Rule: a number is measured or left out; where the session ran is asked of the session.

A cell is one task: load, latency with its raw samples, throughput, peak memory, parity against
onnxruntime on the CPU in float32 with its optimisations off, and what a person would ask the model.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import dtf

try:
    import numpy as np
    import onnxruntime  # noqa: F401 - the reference of every cell
    import zoo_backends
    import zoo_models
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"examples/tiny-zoo needs {error.name}: pip install -r examples/requirements.txt",
        name=error.name,
    ) from error
from zoo_backends import Session, Unsupported
from zoo_models import Array, Feed, Model

for needed in zoo_models.MODELS.values():
    needed.path()  # a missing package is told before anything runs: the task cannot run as written
WARM_UP = 2
ROUNDS_MIN = 5


@dataclass(frozen=True)
class Tolerance:
    """How far from the reference a value may be, and what share of the values must be that near."""

    rtol: float
    atol: float
    share: float


TOLERANCES = {
    "fp32": Tolerance(rtol=1e-3, atol=0.0, share=1.0),
    "bf16": Tolerance(rtol=0.05, atol=0.05, share=0.98),
    "int8": Tolerance(rtol=0.05, atol=0.05, share=0.98),
}
"""Each adds the model's own `atol`. The decisions must be the reference's in any of them."""


def cell(
    model: str,
    backend: str = "onnxruntime",
    batch: int = 1,
    precision: str = "fp32",
    hardware: str = "",
    provider: str = "",
    rounds: int = 100,
    seconds: float = 1.0,
) -> None:
    """One cell, reported: cases load, parity and the model's promises, and its measurements.

    The engine is asked for `hardware`, the class the task was placed on (the worker tells it where
    no parameter does), or for `provider` instead.
    """
    if model not in zoo_models.MODELS:
        raise ValueError(f"model must be one of {', '.join(zoo_models.MODELS)}, got {model!r}")
    tested = zoo_models.MODELS[model]
    asked = provider or hardware or os.environ.get("DTF_HARDWARE") or "cpu"
    try:
        session = _load(tested, backend, precision, asked)
    except Unsupported as reason:
        dtf.skip(str(reason))
        return
    feed = tested.feed(batch)
    _first(session, feed)
    _speed(session, feed, batch, rounds, seconds)
    _memory()  # before the reference is loaded, which would count too
    _parity(tested, session, feed, precision)
    _sanity(tested, session)


def _load(tested: Model, backend: str, precision: str, asked: str) -> Session:
    data = zoo_backends.prepare(backend, tested.path(), precision)
    start = time.perf_counter()
    session = zoo_backends.open_session(backend, data, precision, asked)
    spent = time.perf_counter() - start
    dtf.placed(session.requested, session.actual, session.detail)
    dtf.case("load", "passed", duration_s=spent)
    dtf.measure("load", spent * 1e3, "ms")
    return session


def _first(session: Session, feed: Feed) -> None:
    start = time.perf_counter()
    session.run(feed)
    dtf.measure("first", (time.perf_counter() - start) * 1e3, "ms")


def _parity(tested: Model, session: Session, feed: Feed, precision: str) -> None:
    """The outputs against the reference, value by value and decision by decision."""
    start = time.perf_counter()
    reference = zoo_backends.open_reference(tested.path())
    expected, actual = reference.run(feed), session.run(feed)
    wrong = [_shape_problem(expected, actual)]
    if not any(wrong):
        tolerance = TOLERANCES[precision]
        tolerance = replace(tolerance, atol=tolerance.atol + tested.atol)
        wrong = [_value_problem(expected, actual, tolerance)]
        wanted, decided = tested.decide(expected), tested.decide(actual)
        if (wanted != decided).any():
            wrong.append(f"decides {decided.tolist()}, the reference {wanted.tolist()}")
    message = "; ".join(text for text in wrong if text)
    spent = time.perf_counter() - start
    dtf.case("parity", "failed" if message else "passed", duration_s=spent, message=message)


def _shape_problem(expected: list[Array], actual: list[Array]) -> str:
    wanted, got = [part.shape for part in expected], [part.shape for part in actual]
    return "" if wanted == got else f"shapes {got}, the reference has {wanted}"


def _value_problem(expected: list[Array], actual: list[Array], tolerance: Tolerance) -> str:
    wanted = np.concatenate([part.ravel() for part in expected]).astype(np.float64)
    got = np.concatenate([part.ravel() for part in actual]).astype(np.float64)
    if not np.isfinite(got).all():
        return f"{int((~np.isfinite(got)).sum())} of {got.size} values are not finite"
    error = np.abs(got - wanted)
    dtf.measure("error.max", float(error.max()))
    dtf.measure("error.mean", float(error.mean()))
    share = float((error <= tolerance.atol + tolerance.rtol * np.abs(wanted)).mean())
    if share >= tolerance.share:
        return ""
    return (
        f"{share:.2%} of {got.size} values within rtol {tolerance.rtol:g}, atol {tolerance.atol:g}"
        f" ({tolerance.share:.0%} asked); largest error {error.max():.3g}"
    )


def _sanity(tested: Model, session: Session) -> None:
    start = time.perf_counter()
    found = tested.sanity(session.run)
    spent = (time.perf_counter() - start) / len(found)
    for promise, instead in found.items():
        verdict = "failed" if instead else "passed"
        dtf.case(promise, verdict, duration_s=spent, message=instead)


def _speed(session: Session, feed: Feed, batch: int, rounds: int, seconds: float) -> None:
    """Latency of a batch in ms: single stream, one after the other, raw samples kept.

    At most `rounds` of them in about `seconds`. A percentile without enough samples is left out.
    """
    for _ in range(WARM_UP):
        session.run(feed)
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < rounds and (len(samples) < ROUNDS_MIN or time.perf_counter() < end):
        start = time.perf_counter()
        session.run(feed)
        samples.append((time.perf_counter() - start) * 1e3)
    dtf.measure("latency.p50", float(np.percentile(samples, 50)), "ms", samples=samples)
    for percent, enough in ((95, 20), (99, 100)):
        if len(samples) >= enough:
            dtf.measure(f"latency.p{percent}", float(np.percentile(samples, percent)), "ms")
    dtf.measure("throughput", batch * len(samples) / sum(samples) * 1e3, "items/s")


def _memory() -> None:
    """Peak resident memory of this process, where the platform tells it."""
    try:
        import resource
    except ModuleNotFoundError:
        return  # Windows: left out, not guessed
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    dtf.measure("memory.peak", peak * unit / 2**20, "MiB")
