"""All that a GPU should show, in under eight minutes: training, feature bags, extraction, prediction, two processes, tests.

Training on tiles is measured in bfloat16 with the paper's loops, in float32, with algorithms whose results do not vary, and
with torch's profiler for the time in which the card is idle. An epoch of 10,616 bags, as many as PANDA has, repeats a few
bags: drawing so many would take longer than everything else. Sizes are for a card of the class of an H100 with a dozen CPU
cores; on a slower one some parts end at their limit.

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
from typing import NamedTuple

import torch

from benchmarks import one_card
from benchmarks.timing import PANDA_BAGS, record
from benchmarks.together import measure

REPOSITORY = Path(__file__).resolve().parents[2]
# Those that are marked `gpu`, of these files: importing all tests takes long.
GPU_TESTS = [
    "tests/test_benchmark.py", "tests/test_extract.py", "tests/training/test_classifier.py",
    "tests/data/loading/test_device_cache.py", "tests/inference/test_predict_bags.py",
]  # fmt: skip
ALL = 480  # seconds of everything on a GPU


class Part(NamedTuple):
    """A benchmark in a process of its own.

    Attributes:
        benchmark: Its name.
        seconds: What it may take on a GPU; a CPU, which may be shared, gets five times as long.
        both: Options.
        gpu: Further options on a GPU.
        cpu: Further options on a CPU.
        reads: Whether it takes the folder of data that others wrote.
    """

    benchmark: str
    seconds: int
    both: str
    gpu: str
    cpu: str
    reads: bool = True


TILES, FEW_TILES = "--bags 128 --drawn 10 --batch-size 64", "--bags 6 --drawn 4 --epoch-bags 4 --batch-size 2"
STEPS = "--skip loops idle frozen torchmil --repeats 1"
PARTS = {
    "train in bf16-mixed": Part(
        "train", 95, "--precision bf16-mixed --skip idle frozen torchmil",
        f"{TILES} --epoch-bags {PANDA_BAGS} --loop-bags 64 --repeats 2", f"{FEW_TILES} --loop-bags 1 --repeats 1",
    ),
    "idle": Part(
        "train", 35, "--precision bf16-mixed --skip steps frozen torchmil", f"{TILES} --epoch-bags 4096", FEW_TILES
    ),
    "features": Part(
        "features", 95, "--idle", "--times 2 --long-bags 32 --own-epochs 10 --repeats 2",
        "--kinds 100 --repeats 1", reads=False,
    ),
    "predict": Part(
        "predict", 40, "", "--bags 128 --drawn 10 --loop-bags 64 --repeats 2",
        "--bags 6 --drawn 4 --loop-bags 2 --feature-bags 16 --repeats 1",
    ),
    "extract": Part(
        "extract", 55, "--repeats 1 --memory",
        "--encoders resnet50 --tiles 1500 --batch-size 128 --precision bf16-mixed",
        "--encoders efficientnet_lite0 --tiles 16", reads=False,
    ),
    "train in float32": Part("train", 30, f"--precision 32-true {STEPS}", f"{TILES} --epoch-bags 2048", FEW_TILES),
    "train, deterministic": Part(
        "train", 30, f"--precision bf16-mixed --deterministic {STEPS}", f"{TILES} --epoch-bags 2048", FEW_TILES
    ),
}  # fmt: skip
LIMITS = {name: part.seconds for name, part in PARTS.items()} | {"two processes": 40, "tests": 40}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", nargs="*", choices=list(LIMITS), default=list(LIMITS))


def run(options: argparse.Namespace) -> list[dict]:
    device = options.device
    if device == "cpu":
        sys.stderr.write("on the CPU, at a small size: this shows that the command works, and nothing of a GPU\n")
    start = time.perf_counter()
    records: list[dict] = []
    with tempfile.TemporaryDirectory() as stores:
        for name, part in PARTS.items():
            if name not in options.parts:
                continue
            sys.stderr.write(f"{name}:\n")
            found, seconds, error = measure(part.benchmark, words_of(part, device, stores), limit(name, device))
            records += [row | {"name": f"{name}: {row['name']}"} for row in found]
            records.append(record(failed(name, error) if error else f"{name}: all of it", seconds, "s"))
    if "two processes" in options.parts:
        records += two_processes(device)
    if "tests" in options.parts:
        records.append(tests(limit("tests", device)))
    seconds = time.perf_counter() - start
    records.append(record("everything", seconds, "s", seconds / ALL, "eight minutes"))
    return records


def words_of(part: Part, device: str, stores: str) -> list[str]:
    """Return the options of a part."""
    words = f"{part.both} {part.gpu if device == 'cuda' else part.cpu} --device {device}".split()
    return [*words, "--stores", stores] if part.reads else words


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
    # PyTorch synchronises batch normalisation on GPUs only.
    what = "SyncBatchNorm" if device == "cuda" else "batch normalisation"
    records = [
        record(f"two processes on one {device}, {shown['backend']}: a step with {what}", shown["ms"], "ms"),
        record("the same: difference of both processes' weights", shown["difference"], ""),
        record("the same: distance to one process with both batches", shown["distance"], ""),
    ]
    return records + [record(f"the same, NOT MEASURED: {reason}", 0.0, "ms") for reason in shown["refused"]]


def tests(seconds: float) -> dict:
    """Run the tests that need a GPU, and return how many passed and how many were left out."""
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *GPU_TESTS, "-m", "gpu"]
    try:
        done = subprocess.run(call, check=False, capture_output=True, text=True, cwd=REPOSITORY, timeout=seconds)
    except subprocess.TimeoutExpired:
        return record(failed("tests", f"did not end within {seconds:.0f} s"), 0.0, "passed")
    count = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", done.stdout)}
    said = ", ".join(f"{number} {word}" for word, number in count.items()) or done.stdout.strip()[-200:]
    wrong = re.findall(r"^(?:FAILED|ERROR) \S*?(\w+)(?: - .*)?$", done.stdout, re.M)
    named = f" ({', '.join(wrong)})" if wrong else ""
    return record(f"tests that need a GPU: {said}{named}", count.get("passed", 0), "passed")
