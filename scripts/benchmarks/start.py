"""How long a person waits: imports, `--help`, and the first step of a run."""

import argparse
import os
import subprocess
import sys
import tempfile
import time

from benchmarks.timing import record, seconds_each

LIBRARIES = "torch, torchvision, lightning.pytorch, torchmetrics, hydra, pandas"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5)


def command(*words: str):
    return lambda: subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


def run(options: argparse.Namespace) -> list[dict]:
    times = seconds_each(
        {
            "import torch, torchvision": command("-c", "import torch, torchvision"),
            "import milpath.models": command("-c", "import milpath.models"),
            "import of the libraries": command("-c", f"import {LIBRARIES}"),
            "milpath.train --help": command("-m", "milpath.train", "--help"),
        },
        options.repeats,
    )
    with tempfile.TemporaryDirectory() as folder:
        words = ["data.num_slides=24", f"paths.stores_dir={folder}/stores", f"paths.runs_dir={folder}/runs"]
        words += ["trainer.accelerator=cpu", "trainer.max_steps=1", "callbacks=none", "logger=none", "report=false"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        first = []
        for number in range(options.repeats + 1):
            start = time.perf_counter()
            call = [sys.executable, "-m", "milpath.train", *words, f"run_name={number}"]
            subprocess.run(call, check=True, stdout=subprocess.DEVNULL, env=environment)
            first.append(time.perf_counter() - start)
    torch_, models = times["import torch, torchvision"], times["import milpath.models"]
    libraries, help_ = times["import of the libraries"], times["milpath.train --help"]
    whole = sorted(first[1:])[len(first[1:]) // 2]
    return [
        record("import torch, torchvision", torch_, "s"),
        record("import milpath.models", models, "s", models / torch_, "import torch, torchvision"),
        record("import of the libraries", libraries, "s"),
        record("milpath.train --help", help_, "s", help_ / libraries, "import of the libraries"),
        record("a run of one step, tested, results written", whole, "s", whole - help_, "seconds after --help"),
    ]
