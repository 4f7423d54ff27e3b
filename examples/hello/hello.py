"""A test that measures something."""

import time

import dtf


def square(number: int, times: int) -> int:
    """The square of a number, and how long it took to find."""
    start = time.perf_counter()
    results = {number**2 for _ in range(times)}
    dtf.measure("latency", (time.perf_counter() - start) / times * 1e6, "us")
    assert results == {number * number}
    return number**2
