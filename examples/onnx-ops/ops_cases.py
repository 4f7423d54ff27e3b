"""The node tests inside the `onnx` wheel, generated lazily.

Rule: one operator's module is imported at a time.

Importing every module takes about 8 s, three pooling modules alone 6 s of it; one operator takes
milliseconds. Each test is a model of one operator with inputs, expected outputs and tolerances,
made by code in the wheel: nothing is downloaded. Generation seeds numpy's global generator, so it
runs under a lock.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

_PACKAGE = "onnx.backend.test.case.node"
_lock = threading.Lock()


@dataclass(frozen=True)
class OpCase:
    """One node test.

    Values are arrays (ml_dtypes for what numpy lacks), lists of arrays for sequences, or None.
    """

    name: str
    operator: str
    """Name of the module that makes it, such as "abs" or "ai_onnx_ml.label_encoder"."""
    model: onnx.ModelProto
    inputs: list[Any]
    expected: list[Any]
    rtol: float
    atol: float

    @property
    def opset(self) -> str:
        """The operator sets the model imports, for messages: "22" or "ai.onnx.ml 5, 18"."""
        named = sorted((item.domain, item.version) for item in self.model.opset_import)
        return ", ".join(f"{domain} {version}".strip() for domain, version in named)


@functools.cache
def operators() -> tuple[str, ...]:
    """Names of the modules with node tests, sorted; about 197.

    Imports none of them but their packages.
    """
    package = importlib.import_module(_PACKAGE)
    names = []
    for found in pkgutil.walk_packages(package.__path__, _PACKAGE + "."):
        if not found.ispkg and not found.name.rpartition(".")[2].startswith("_"):
            names.append(found.name.removeprefix(_PACKAGE + "."))
    return tuple(sorted(names))


@functools.cache
def _generate(operator: str) -> tuple[OpCase, ...]:
    from onnx.backend.test.case import node

    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some tests overflow on purpose
        before = len(node._NodeTestCases)
        state = np.random.get_state()
        np.random.seed(0)
        try:
            importlib.import_module(f"{_PACKAGE}.{operator}")
        finally:
            np.random.set_state(state)
        made = node._NodeTestCases[before:]
    return tuple(_case(operator, test) for test in made)


def _case(operator: str, test: Any) -> OpCase:
    ((inputs, expected),) = test.data_sets
    return OpCase(
        name=test.name,
        operator=operator,
        model=test.model,
        inputs=[plain(value) for value in inputs],
        expected=[plain(value) for value in expected],
        rtol=test.rtol,
        atol=test.atol,
    )


def plain(value: Any) -> Any:
    """The value as an array, a list of them, or None: the wheel also keeps TensorProto and numpy
    scalars.
    """
    if value is None:
        return None
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, (list, tuple)):
        return [plain(element) for element in value]
    return np.asarray(value)


def cases_of(operator: str) -> tuple[OpCase, ...]:
    """The tests of one operator's module, generated on first use in this process."""
    if operator not in operators():
        raise LookupError(f"operator {operator!r} has no node tests in onnx {onnx.__version__}")
    return _generate(operator)


def find_case(operator: str, name: str) -> OpCase:
    """The test called `name` of that operator."""
    for case in cases_of(operator):
        if case.name == name:
            return case
    raise LookupError(f"operator {operator!r} of onnx {onnx.__version__} has no test {name!r}")


def shard_operators(shard: int, shards: int) -> Sequence[str]:
    """Operators of shard `shard` (from 0) of `shards`: every operator is in exactly one."""
    if not 0 <= shard < shards:
        raise ValueError(f"shard must be 0 to {shards - 1}, got {shard}")
    return operators()[shard::shards]


def all_cases() -> Iterator[OpCase]:
    """Every test, operator by operator; generating them all takes about 8 s."""
    for operator in operators():
        yield from cases_of(operator)
