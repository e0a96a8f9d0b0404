"""Every benchmark, one after the other, each in a process of its own: what one keeps in memory does not help the next.

With `--quick` each runs at a small size: all take a few minutes, the ratios are rough, and every row is there.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.timing import record

SCRIPT = Path(__file__).resolve().parent.parent / "benchmark.py"
QUICK = {
    "train": ["--bags", "8", "--repeats", "1", "--skip", "frozen", "idle"],
    "load": ["--bags", "60", "--repeats", "2"],
    "predict": ["--bags", "12", "--feature-bags", "200", "--repeats", "1"],
    "start": ["--repeats", "1"],
    "scale": ["--bags", "60", "--repeats", "1", "--stream-bags", "8", "--skip", "memory"],
    "features": ["--kinds", "100", "1 to 60", "--repeats", "1"],
    "folds": ["--repeats", "1"],
    "cost": ["--skip", "slides", "features", "--rows", "1000", "--many-slides", "0"],
    "tile": ["--slides", "12", "--repeats", "1", "--skip", "tissue"],
    "extract": ["--encoders", "efficientnet_lite0", "--tiles", "48", "--repeats", "1", "--memory"],
    # On a CPU its other parts are the benchmarks above.
    "gpu": ["--device", "cpu", "--parts", "two processes"],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="a few minutes instead of an hour; rough ratios")


def run(options: argparse.Namespace) -> list[dict]:
    words: Mapping[str, Sequence[str]] = QUICK if options.quick else {name: [] for name in QUICK}
    records, failed = [], []
    for name, each in words.items():
        found, seconds, error = measure(name, each)
        records += [row | {"name": f"{name}: {row['name']}"} for row in found]
        records.append(record(f"{name}: the whole benchmark", seconds, "s"))
        if error:
            failed.append(f"{name}: {error}")
    if failed:
        raise SystemExit("these benchmarks failed: " + "; ".join(failed))
    return records


def measure(name: str, words: Sequence[str], limit: float | None = None) -> tuple[list[dict], float, str]:
    """Run one benchmark in a process, and say when it ends.

    Returns:
        Its rows, the seconds it took, and one line of what went wrong, empty if nothing did.
    """
    found, seconds, error = _measure(name, words, limit)
    sys.stderr.write(f"{name}: {error or 'done'}, {seconds:.0f} s\n")
    return found, seconds, error


def _measure(name: str, words: Sequence[str], limit: float | None) -> tuple[list[dict], float, str]:
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        call = [sys.executable, str(SCRIPT), name, "--json", str(rows), *words]
        start = time.perf_counter()
        try:
            status, said = run_whole(call, limit)
        except subprocess.TimeoutExpired:
            return [], time.perf_counter() - start, f"did not end within {limit:.0f} s"
        seconds = time.perf_counter() - start
        if status:
            return [], seconds, (said.strip().splitlines() or [f"exit status {status}"])[-1]
        return json.loads(rows.read_text())["records"], seconds, ""


def run_whole(call: Sequence[str], limit: float | None) -> tuple[int, str]:
    """Run a command, and end it with all processes that it started if it takes too long: they would slow the next one down.

    Returns:
        Its exit status and what it wrote to its standard error.

    Raises:
        subprocess.TimeoutExpired: If it does not end in time.
    """
    with subprocess.Popen(
        call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, text=True, errors="replace"
    ) as process:
        try:
            said = process.communicate(timeout=limit)[1]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, said
