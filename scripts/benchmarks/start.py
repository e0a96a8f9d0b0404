"""Start-up times: imports, `--help`, the first step of a run, one slide predicted."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.timing import record, speedup, turns

SCRIPTS = Path(__file__).resolve().parent.parent
LIBRARIES = "torch, torchvision, lightning.pytorch, torchmetrics, hydra, pandas"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=3)


def command(*words: str):
    return lambda: subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


def run(options: argparse.Namespace) -> list[dict]:
    times = turns(
        {
            "torch": command("-c", "import torch, torchvision"),
            "models": command("-c", "import milpath.models"),
            "libraries": command("-c", f"import {LIBRARIES}"),
            "help": command("-m", "milpath.train", "--help"),
        },
        options.repeats,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = [first_step(folder, number) for number in range(options.repeats + 1)][1:]
        slide = make_slide(folder)
        cold = [predict_slide(folder, slide, number) for number in range(options.repeats + 1)][1:]
    torch_, models, libraries, help_ = (times[name] for name in ("torch", "models", "libraries", "help"))
    waited = median(first) - median(libraries)
    return [
        record("import torch, torchvision", median(torch_), "s"),
        record("import milpath.models", median(models), "s", speedup(models, torch_), "import torch, torchvision"),
        record("import of the libraries", median(libraries), "s"),
        record("milpath.train --help", median(help_), "s", speedup(help_, libraries), "import of the libraries"),
        record("first step of a run", median(first), "s", waited / 3, "import of the libraries and 3 s"),
        record("milpath.predict, one slide, cold start", median(cold), "s", median(cold) / 10, "10 s"),
    ]


def first_step(folder: Path, number: int) -> float:
    """Return the seconds from the command line to the end of the first training step."""
    mark = folder / f"first-{number}"
    words = ["data.num_slides=24", f"paths.stores_dir={folder}/stores", f"paths.runs_dir={folder}/runs"]
    words += ["trainer.accelerator=cpu", "callbacks=none", "logger=none", f"run_name={number}"]
    words += ["+callbacks.first._target_=benchmarks.first_step.FirstStep", f"+callbacks.first.path={mark}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPTS), os.environ.get("PYTHONPATH", "")])}
    start = time.time()
    call = [sys.executable, "-m", "milpath.train", *words]
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL, env=environment)
    return float(mark.read_text()) - start


def make_slide(folder: Path) -> Path:
    """Write a picture of tissue of the size of level 2 of a PANDA slide, and a network for tiles of 128 px."""
    from PIL import Image

    from milpath.data import SyntheticBags
    from milpath.data.store.store_build import open_or_build
    from milpath.models import AttentionMIL, save_network

    store = open_or_build(SyntheticBags(num_slides=11, num_tiles=16, tile_size=128), folder / "tissue")
    # 11 bags of 16 tiles give 16 rows of 11.
    rows = store.tiles[:176].reshape(16, 11, 128, 128, 3).transpose(0, 2, 1, 3, 4).reshape(2048, 1408, 3)
    (folder / "slides").mkdir()
    Image.fromarray(rows).save(folder / "slides" / "slide.png")
    tiling = {"method": "darkest", "num_tiles": 16, "tile_size": 128, "level": -1}
    names = ("benign", "malignant")
    save_network(AttentionMIL(), folder / "network.pt", class_names=names, task="binary", tiling=tiling)
    return folder / "slides" / "slide.png"


def predict_slide(folder: Path, slide: Path, number: int) -> float:
    words = [f"checkpoint={folder}/network.pt", f"slides={slide}", f"output={folder}/predictions-{number}"]
    start = time.perf_counter()
    command("-m", "milpath.predict", *words)()
    return time.perf_counter() - start
