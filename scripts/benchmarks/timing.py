"""Median times of alternatives, measured in turns so that changes of the machine's speed affect all of them equally."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch

PANDA_BAGS = 10_616


def turns(alternatives: Mapping[str, Callable[[], object]], repeats: int, clock=time.perf_counter) -> dict[str, list]:
    """Return the times of each alternative, one per turn; the first turn is a warm-up and is dropped."""
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for turn in range(repeats + 1):
        for name, function in alternatives.items():
            synchronise()
            start = clock()
            function()
            synchronise()
            seconds = clock() - start
            sys.stderr.write(f"turn {turn} of {repeats}: {name} {seconds:.3g} s\n")
            if turn:
                times[name].append(seconds)
    return times


def speedup(slow: list[float], fast: list[float]) -> float:
    """Return the speed-up as the median over turns, which is robust to a busy turn."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def seconds_each(alternatives: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median time of each alternative."""
    return {name: statistics.median(values) for name, values in turns(alternatives, repeats).items()}


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def record(name: str, value: float, unit: str, ratio: float | None = None, against: str | None = None) -> dict:
    return {"name": name, "value": value, "unit": unit, "ratio": ratio, "against": against}


def matmul_rate(device: str, dtype: torch.dtype = torch.float32, size: int = 2048, clock=time.perf_counter) -> float:
    """Return FLOP/s of a large matrix product."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _seconds_of_one(lambda: a @ b, device, clock)


def copy_rate(device: str, num_bytes: int = 256 << 20) -> float:
    """Return bytes/s of a copy in the device's memory, reading and writing counted once."""
    source, target = (torch.empty(num_bytes, dtype=torch.uint8, device=device) for _ in range(2))
    return num_bytes / _seconds_of_one(lambda: target.copy_(source), device, time.perf_counter)


def _seconds_of_one(function: Callable[[], object], device: str, clock: Callable[[], float]) -> float:
    """Return the median time of a call; on a GPU of 20 in a row, as waiting for one takes as long as the call."""
    number = 20 if device == "cuda" else 1

    def several() -> None:
        for _ in range(number):
            function()

    return statistics.median(turns({"limit": several}, 5, clock)["limit"]) / number
