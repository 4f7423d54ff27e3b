"""Outputs against what a node test expects.

Rule: the wheel's own tolerances, and nothing is compared loosely.

Shape and type must match exactly, strings and absent values too; numbers within the test's rtol and
atol. The wheel widens bfloat16 to two units in the last place, and so does this. (Its own
comparison cannot take a sequence with a scalar in it, which is why this module exists.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

BFLOAT16_RTOL = 2**-6
Array = np.ndarray[Any, Any]


def difference(expected: Any, actual: Any, rtol: float, atol: float, where: str = "output") -> str:
    """What is wrong with `actual`, in one line; "" when it is as expected."""
    if expected is None or actual is None:
        return "" if expected is actual else f"{where}: {_kind(actual)}, expected {_kind(expected)}"
    if isinstance(expected, list) or isinstance(actual, list):
        return _list_difference(expected, actual, rtol, atol, where)
    if expected.shape != actual.shape:
        return f"{where}: shape {actual.shape}, expected {expected.shape}"
    if expected.dtype == object or actual.dtype.kind in "OU":
        same = expected.tolist() == actual.tolist()
        return "" if same else f"{where}: {actual.tolist()!r}, expected {expected.tolist()!r}"
    if expected.dtype != actual.dtype:
        return f"{where}: type {actual.dtype}, expected {expected.dtype}"
    return _array_difference(expected, actual, rtol, atol, where)


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


def _list_difference(expected: Any, actual: Any, rtol: float, atol: float, where: str) -> str:
    if not (isinstance(expected, list) and isinstance(actual, list)):
        return f"{where}: {_kind(actual)}, expected {_kind(expected)}"
    if len(expected) != len(actual):
        return f"{where}: {len(actual)} elements, expected {len(expected)}"
    for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
        found = difference(one, other, rtol, atol, f"{where}[{index}]")
        if found:
            return found
    return ""


def _array_difference(expected: Array, actual: Array, rtol: float, atol: float, where: str) -> str:
    if expected.dtype.name == "bfloat16":
        rtol = max(rtol, BFLOAT16_RTOL)
    wanted, got = _wide(expected), _wide(actual)
    wrong = ~np.isclose(got, wanted, rtol=rtol, atol=atol, equal_nan=True)
    if not wrong.any():
        return ""
    first = tuple(int(index) for index in np.argwhere(wrong)[0])
    with np.errstate(all="ignore"):
        gaps = np.abs(got[wrong] - wanted[wrong])
    gaps = gaps[~np.isnan(gaps)]
    largest = f"by up to {gaps.max():.3g}" if gaps.size else "where one is not a number"
    return (
        f"{where}: {int(wrong.sum())} of {wrong.size} values differ {largest}, "
        f"first {got[first]!s} at {list(first)}, expected {wanted[first]!s}"
    )


def _wide(array: Array) -> Array:
    """The same values in a type numpy can subtract: 64 bits hold all but the largest integers
    exactly.
    """
    if array.dtype.kind in "fcV" or array.dtype.kind not in "iub":
        return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    return array.astype(np.float64)
