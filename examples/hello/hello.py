"""A test that measures something."""

import random
import time

import dtf


def sort_numbers(order: str, size: int) -> None:
    """Sorting gives every number in its place, and takes less time where they were sorted."""
    numbers = list(range(size))
    if order == "shuffled":
        random.Random(0).shuffle(numbers)
    start = time.perf_counter()
    numbers.sort()
    dtf.measure("latency", (time.perf_counter() - start) * 1e3, "ms")
    assert numbers == list(range(size))
