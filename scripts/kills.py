"""Kill a command again and again, let it go on, and compare its results with those of a run that was left alone.

    python -m scripts.kills train|tile|extract|predict [--kills 20] [--seed 0] [--folder DIR]

The process gets SIGKILL at a random moment, mostly while it writes its results; what it started is left to end by itself
while the same command runs again. Prints the number of kills and every file whose content differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from milpath.models import AttentionMIL, save_network
from tests.pyramids import tissue, write_pyramid

NUM_SLIDES = 40
TRAIN = [
    "data=synthetic", "data.num_slides=24", "data.tile_size=32", "data.num_tiles=4", "data.batch_size=4",
    "model.encoder.embedding_dim=16", "trainer.accelerator=cpu", "trainer.max_epochs=30", "callbacks.early_stopping=null",
    "callbacks.progress=null", "callbacks.timed_checkpoint.train_time_interval.minutes=0.00001", "logger=csv", "report=true",
    "run_name=run", "resume_from=auto",
]  # fmt: skip
# Folder of results, and the words of the command.
COMMANDS = {
    "train": ("runs/run", ["train", *TRAIN]),
    "tile": ("tiles", ["tile", "slides=../slides", "output=tiles", "tile_size=32", "num_workers=2"]),
    "extract": (
        "features",
        [
            "extract",
            "slides=../slides",
            "output=features",
            "encoder=efficientnet_lite0",
            "tile_size=32",
            "level=0",
            "method=darkest",
            "num_tiles=8",
            "format=[store,h5]",
            "device=cpu",
            "num_workers=2",
        ],
    ),
    "predict": (
        "predicted",
        ["predict", "checkpoint=../network.pt", "slides=../slides", "output=predicted", "num_workers=2"],
    ),
}
# They contain the time of the run, so only their presence is compared.
# The remembered digests may not have been written when a kill was the last thing that happened.
TIMED = ("provenance.json", "report.html", "train.log")
REMEMBERED = ".verified.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=words.folder) as folder:
        kills, rounds, different = kill_and_compare(words.command, Path(folder), words.kills, words.seed)
    sys.stdout.write(f"{words.command}: {kills} kills in {rounds} runs to the end; different: {different or 'none'}\n")
    sys.exit(bool(different))


def kill_and_compare(
    command: str, folder: Path, kills: int, seed: int, starter: Callable[[Sequence[str], Path], Any] | None = None
) -> tuple[int, int, list[str]]:
    """Return the kills that hit, the runs brought to their end, and the files that differ from those of a run left alone.

    Args:
        command: "train", "tile", "extract" or "predict".
        folder: An empty folder.
        kills: How many; a run that ends before the last one is followed by another one from the start.
        seed: Of the moments.
        starter: What starts the command, from its words and its folder; by default a new interpreter (`start`).
    """
    launch = starter or start
    write_input(folder)
    results, words = COMMANDS[command]
    (folder / "whole").mkdir()
    began = time.monotonic()
    end_of(launch(words, folder / "whole"), folder / "whole")
    seconds = time.monotonic() - began
    whole = contents(folder / "whole", results)
    source, hits, rounds, different = random.Random(seed), 0, 0, set()
    while hits < kills or rounds == 0:
        cwd = folder / f"killed_{rounds}"
        cwd.mkdir()
        while hits < kills:
            process = launch(words, cwd)
            if not kill(process, cwd, results, source, seconds):
                break
            hits += 1
            if command == "predict" and (cwd / results / "predictions.csv").exists():
                break  # killed after its last file: a finished prediction is not started again
        else:
            end_of(launch(words, cwd), cwd)
        different |= differences(whole, contents(cwd, results))
        rounds += 1
    return hits, rounds, sorted(different)


def write_input(folder: Path) -> None:
    """Write slides and a network."""
    picture = tissue(300, 200)
    for number in range(NUM_SLIDES):
        write_pyramid(folder / f"slides/{number:02}.tiff", np.roll(picture, 7 * number, axis=0), factors=(1,))
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8})
    tiling = {"method": "darkest", "tile_size": 32, "num_tiles": 8, "level": -1}
    save_network(network, folder / "network.pt", class_names=("benign", "malignant"), tiling=tiling)


def start(words: Sequence[str], cwd: Path) -> subprocess.Popen[bytes]:
    """Start a command."""
    name, *rest = words
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (cwd / "said.txt").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", f"milpath.{name}", *rest], cwd=cwd, env=environment, stdout=said, stderr=said
        )


def end_of(process: subprocess.Popen[bytes], cwd: Path) -> None:
    """Wait for the success of a command that runs in a folder.

    Raises:
        RuntimeError: If it fails.
    """
    if (status := process.wait(600)) != 0:
        said = (cwd / "said.txt").read_text(errors="replace")
        raise RuntimeError(f"{process.args!r} failed with status {status}: {said[-2000:]}")


def kill(process: subprocess.Popen[bytes], cwd: Path, results: str, source: random.Random, seconds: float) -> bool:
    """Kill a command at a random moment; return False if it had come to its end by itself.

    One in five is killed at any time, the others within a second of the first change in their results.

    Args:
        process: The command.
        cwd: Its folder.
        results: Folder of its results, in `cwd`.
        source: Of the moment.
        seconds: That a run takes which is left alone.
    """
    if source.random() < 0.2:
        wait = source.uniform(0, seconds)
    else:
        before, wait = newest(cwd / results), source.uniform(0, 1) ** 2
        while newest(cwd / results) == before and process.poll() is None:
            time.sleep(0.005)
    try:
        process.wait(wait)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            return True
    end_of(process, cwd)
    return False


def newest(folder: Path) -> int:
    """Return the time of the last change below a folder."""
    latest = 0
    for path in [folder, *folder.rglob("*")]:
        try:
            latest = max(latest, path.stat().st_mtime_ns)
        except FileNotFoundError:  # renamed or deleted meanwhile
            continue
    return latest


def contents(cwd: Path, results: str) -> dict[str, str]:
    """Return a digest of every result of a run; of a checkpoint, one of its weights."""
    found = {}
    folder = cwd / results
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != REMEMBERED):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".ckpt":
            weights = torch.load(path, weights_only=True)["state_dict"]
            found[name] = str(hash(tuple((key, value.numpy().tobytes()) for key, value in sorted(weights.items()))))
        else:
            # The folder of the run stands in its configuration.
            content = path.read_bytes().replace(str(cwd).encode(), b".")
            found[name] = "" if name in TIMED else sha256(content).hexdigest()
    return found


def differences(whole: dict[str, str], other: dict[str, str]) -> set[str]:
    """Return the files that are missing, additional or different."""
    return {name for name in whole.keys() | other.keys() if whole.get(name) != other.get(name)}


if __name__ == "__main__":
    main()
