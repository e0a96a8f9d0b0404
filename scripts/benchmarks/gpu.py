"""All that a GPU should show, in under eight minutes: training, feature bags, extraction, prediction, two processes, tests.

Without a GPU, or with `--device cpu`, the same runs at a small size on the CPU, so that it keeps working; its figures say
nothing of a GPU. A part that fails or takes too long is named and the others go on. `--json` keeps the rows and the name of
the card.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import one_card
from benchmarks.timing import record
from benchmarks.together import measure

REPOSITORY = Path(__file__).resolve().parents[2]
GPU_TESTS = ["tests/training/test_classifier.py", "tests/data/loading/test_device_cache.py"]
# Seconds a part may take on a GPU: together under eight minutes. A CPU, which may be shared, gets five times as long.
LIMITS = {"train": 180, "scale": 60, "extract": 90, "predict": 60, "two processes": 45, "tests": 40}
# What each part runs: on a GPU, and on a CPU.
PARTS = {
    "train": (
        ["--bags", "512", "--batch-size", "64", "--repeats", "2", "--skip", "frozen"],
        ["--bags", "12", "--batch-size", "2", "--repeats", "1", "--skip", "frozen", "torchmil"],
    ),
    "scale": (
        ["--skip", "lengths", "stream", "memory", "--repeats", "3"],
        ["--bags", "16", "--skip", "lengths", "stream", "memory", "--repeats", "1"],
    ),
    "extract": (
        [
            "--encoders",
            "resnet50",
            "--tiles",
            "2000",
            "--repeats",
            "1",
            "--batch-size",
            "128",
            "--precision",
            "bf16-mixed",
            "--memory",
        ],
        ["--encoders", "efficientnet_lite0", "--tiles", "16", "--repeats", "1", "--memory"],
    ),
    "predict": (
        ["--bags", "256", "--repeats", "2"],
        ["--bags", "12", "--feature-bags", "16", "--repeats", "1"],
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--skip", nargs="*", choices=list(LIMITS), default=[])


def run(options: argparse.Namespace) -> list[dict]:
    cuda = options.device == "cuda"
    if not cuda:
        sys.stderr.write("on the CPU, at a small size: this shows that the command works, and nothing of a GPU\n")
    start = time.perf_counter()
    records: list[dict] = []
    for name, words in PARTS.items():
        if name in options.skip:
            continue
        found, seconds, error = measure(
            name, [*words[0 if cuda else 1], "--device", options.device], limit(name, options.device)
        )
        records += [row | {"name": f"{name}: {row['name']}"} for row in found]
        records.append(record(failed(name, error) if error else f"{name}: all of it", seconds, "s"))
    if "two processes" not in options.skip:
        records += two_processes(options.device)
    if "tests" not in options.skip:
        records.append(tests(limit("tests", options.device)))
    seconds = time.perf_counter() - start
    records.append(record("everything", seconds, "s", seconds / 480, "eight minutes"))
    return records


def limit(name: str, device: str) -> float:
    return LIMITS[name] * (1 if device == "cuda" else 5)


def failed(name: str, error: str) -> str:
    return f"{name}: NOT MEASURED, {error[:200]}"


def two_processes(device: str) -> list[dict]:
    """Return the rows of two processes that train together on one card, or the reason why they cannot."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            shown = one_card.run_pair(device, Path(folder), limit("two processes", device))
        except (subprocess.SubprocessError, RuntimeError) as error:
            return [record(failed("two processes", str(error).splitlines()[-1]), 0.0, "s")]
    return [
        record(f"two processes on one {device}, {shown['backend']}: a step with SyncBatchNorm", shown["ms"], "ms"),
        record("the same: difference of both processes' weights", shown["difference"], ""),
        record("the same: distance to one process with both batches", shown["distance"], ""),
    ]


def tests(seconds: float) -> dict:
    """Run the tests that need a GPU, and return how many passed and how many were left out."""
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *GPU_TESTS, "-k", "gpu"]
    try:
        done = subprocess.run(call, check=False, capture_output=True, text=True, cwd=REPOSITORY, timeout=seconds)
    except subprocess.TimeoutExpired:
        return record(failed("tests", f"did not end within {seconds:.0f} s"), 0.0, "passed")
    count = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped)", done.stdout)}
    said = ", ".join(f"{number} {word}" for word, number in count.items()) or done.stdout.strip()[-200:]
    return record(f"tests that need a GPU: {said}", count.get("passed", 0), "passed")
