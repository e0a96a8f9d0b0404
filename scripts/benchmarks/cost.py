"""Cost of the commands per slide and per tile, and of opening a store with millions of tiles, for `docs/scale.md`.

Each command runs twice, on a smaller and a larger input: the difference is what the additional slides or tiles cost, and
start-up is not in it. CPU time is that of all processes of a command together, so that other work on the machine changes it
little. Slides are generated pyramids as in `benchmark.py tile`, the array of the large stores has one byte per tile.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.tile import drawn_level, write_pyramid
from benchmarks.timing import record
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.store_digests import sealed_description
from milpath.records.atomic_files import write_json
from milpath.records.digests import sha256_of_file

NUM_FEATURES = 1024
_OPENED = """
import sys, time
from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import level0_positions
def peak():
    return next(int(line.split()[1]) / 1e3 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before, start = peak(), time.process_time()
store = BagStore.open(sys.argv[1])
opened = time.process_time()
level0_positions(store, store.tile_slice(len(store) // 2))
print(opened - start, time.process_time() - opened, peak() - before)
"""


class Usage(NamedTuple):
    """What a command took.

    Attributes:
        cpu_s: CPU seconds of all its processes.
        peak_mb: Largest memory of one of them.
    """

    cpu_s: float
    peak_mb: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slides", type=int, nargs=2, default=[1, 5], help="slides that are cut")
    parser.add_argument("--tiles", type=int, nargs=2, default=[32, 192], help="tiles of a slide that are encoded")
    parser.add_argument(
        "--bags", type=int, nargs=2, default=[8, 32], help="bags that are predicted; the larger are trained"
    )
    parser.add_argument("--bag-tiles", type=int, default=1000)
    parser.add_argument("--epochs", type=int, nargs=2, default=[1, 4])
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 10_000_000], help="tiles of opened stores")
    parser.add_argument(
        "--many-slides", type=int, default=1_000_000, help="slides of one more opened store, ten tiles each"
    )
    parser.add_argument("--skip", nargs="*", choices=["cut", "encode", "train", "open"], default=[])


def run(options: argparse.Namespace) -> list[dict]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        records = []
        if not {"cut", "encode"} <= set(options.skip):
            write_pyramid(folder / "one" / "slide_0.tiff", drawn_level(), (16, 4, 1))
        if "cut" not in options.skip:
            records += cut(folder, options.slides)
        if "encode" not in options.skip:
            records += encode(folder, options.tiles)
        if "train" not in options.skip:
            records += train_and_predict(folder, options)
        if "open" not in options.skip:
            for rows in options.rows:
                records += opened(folder / f"store_{rows}", rows, max(rows // 5000, 1))
            if options.many_slides:
                records += opened(folder / "many", 10 * options.many_slides, options.many_slides)
        return records


def cut(folder: Path, counts: list[int]) -> list[dict]:
    """Return the cost of finding tissue and cutting 64 tiles of 256 px, per slide."""
    used = []
    for count in counts:
        slides = folder / f"slides_{count}"
        slides.mkdir()
        for number in range(count):
            shutil.copy(folder / "one/slide_0.tiff", slides / f"slide_{number}.tiff")
        words = ["method=tissue", "num_tiles=64", "tile_size=256", "level=0", "num_workers=1"]
        used.append(command("tile", f"slides={slides}", f"output={folder / f'cut_{count}'}", *words, cwd=folder))
        shutil.rmtree(slides)
    return [
        record("cut 64 tiles, per slide", slope(used, counts), "CPU s"),
        record("cut 64 tiles, memory", used[-1].peak_mb, "MB"),
    ]


def encode(folder: Path, counts: list[int]) -> list[dict]:
    """Return the cost of reading and encoding a tile, and the size of its features and its row."""
    used = []
    for count in counts:
        output = folder / f"features_{count}"
        words = ["encoder=efficientnet_lite0", f"num_tiles={count}", "microns_per_pixel=0.5", "device=cpu"]
        used.append(command("extract", f"slides={folder / 'one'}", f"output={output}", *words, cwd=folder))
    per_tile = (output / "tiles.npy").stat().st_size / count
    return [
        record("encode with efficientnet_lite0, per tile", slope(used, counts), "CPU s"),
        record("encode, memory", used[-1].peak_mb, "MB"),
        record("features of 1,280 float16, per tile", per_tile, "bytes"),
        record("row of tiles.csv, per tile", (output / "tiles.csv").stat().st_size / count, "bytes"),
    ]


def train_and_predict(folder: Path, options: argparse.Namespace) -> list[dict]:
    """Return the cost of an epoch and of a prediction on bags of features, per tile."""
    stores = [feature_store(folder / f"bags_{count}", count, options.bag_tiles) for count in options.bags]
    trained = []
    for epochs in options.epochs:
        words = ["experiment=frozen_encoder", f"data.path={stores[-1]}", f"trainer.max_epochs={epochs}", "report=false"]
        words += ["logger=none", "trainer.accelerator=cpu", f"run_name=run_{epochs}", "data.val_fraction=0.2"]
        trained.append(command("train", *words, cwd=folder))
    splits = pd.read_csv(folder / f"runs/run_{epochs}/splits.csv")["split"]
    num_tiles = int((splits != "test").sum()) * options.bag_tiles
    checkpoint = folder / f"runs/run_{epochs}/checkpoints/best.ckpt"
    predicted = []
    for store, count in zip(stores, options.bags, strict=True):
        words = [f"checkpoint={checkpoint}", f"slides={store}", f"output={folder / f'predicted_{count}'}", "device=cpu"]
        predicted.append(command("predict", *words, "pictures=false", cwd=folder))
    tiles = [count * options.bag_tiles for count in options.bags]
    written = sum(path.stat().st_size for path in (folder / f"predicted_{count}").rglob("*") if path.is_file())
    growth = (predicted[1].peak_mb - predicted[0].peak_mb) * 1e6 / (tiles[1] - tiles[0])
    return [
        record("train, per tile and epoch", slope(trained, options.epochs) / num_tiles, "CPU s"),
        record("train, memory", trained[-1].peak_mb, "MB"),
        record("predict, per tile", slope(predicted, tiles), "CPU s"),
        record("predict, memory", predicted[-1].peak_mb, "MB"),
        record("predict, growth of memory per tile", max(growth, 0.0), "bytes"),
        record("files of a prediction without pictures, per tile", written / tiles[1], "bytes"),
    ]


def feature_store(path: Path, num_bags: int, num_tiles: int) -> Path:
    """Write bags of random features."""
    block = np.random.default_rng(0).standard_normal((num_tiles, NUM_FEATURES), np.float32).astype(np.float16)
    with BagStoreWriter(path, {"name": "features"}) as writer:
        for number in range(num_bags):
            places = {"x": np.arange(num_tiles) * 256, "y": np.zeros(num_tiles, np.int64)}
            writer.add(f"bag_{number}", block, {"label": number % 2}, places)
    return path


def opened(path: Path, num_tiles: int, num_bags: int) -> list[dict]:
    """Return CPU time and memory of opening a store and of the positions of one slide, the first time and later."""
    table_store(path, num_tiles, num_bags)
    start = time.process_time()
    sha256_of_file(path / "tiles.csv")
    rate = (path / "tiles.csv").stat().st_size / 1e9 / (time.process_time() - start)
    time.sleep(3)  # files that have just been written are not remembered as verified
    names = ("first", "second", "later")
    found = [
        list(map(float, subprocess.check_output([sys.executable, "-c", _OPENED, str(path)], text=True).split()))
        for _ in names
    ]
    records = [record("SHA-256 of a file", rate, "GB/s")]
    for name, (open_s, place_s, memory) in zip(names, found, strict=True):
        what = f"{num_tiles:,} tiles of {num_bags:,} slides, {name} process"
        records += [
            record(f"open, {what}", open_s, "CPU s"),
            record(f"positions of a slide, {what}", place_s, "CPU s"),
            record(f"memory of both, {what}", memory, "MB"),
        ]
    shutil.rmtree(path)
    return records


def table_store(path: Path, num_tiles: int, num_bags: int) -> None:
    """Write a store with the tables of whole slides and one byte per tile."""
    path.mkdir()
    each, rng = num_tiles // num_bags, np.random.default_rng(0)
    np.save(path / "tiles.npy", np.zeros((each * num_bags, 1), np.uint8))
    names = [f"slide-{number:07d}-01Z-00-DX1" for number in range(num_bags)]
    bags = pd.DataFrame({"bag_id": names, "start": np.arange(num_bags) * each, "num_tiles": each, "label": 0})
    bags.to_csv(path / "bags.csv", index=False)
    columns = ["x", "y", "level", "x0", "y0", "size0", "tissue_fraction"]
    with (path / "tiles.csv").open("w", encoding="utf-8") as file:
        file.write(",".join(["bag_id", *columns]) + "\n")
        for name in names:
            x, y, tissue = (
                (rng.integers(0, 300, each) * 256).tolist(),
                (rng.integers(0, 300, each) * 256).tolist(),
                rng.random(each),
            )
            file.write(
                "".join(
                    f"{name},{a},{b},0,{a},{b},256,{c:.4f}\n" for a, b, c in zip(x, y, tissue.tolist(), strict=True)
                )
            )
    description = {
        "format_version": 1, "source": {"name": "slides", "parameters": {}}, "num_bags": num_bags,
        "num_tiles": each * num_bags, "tile_columns": columns, "sha256": sha256_of_file(path / "tiles.npy"),
    }  # fmt: skip
    write_json(path / "store.json", sealed_description(description, path))


def command(name: str, *words: str, cwd: Path) -> Usage:
    """Run a command of milpath, and return what it and its processes took."""
    sys.stderr.write(f"milpath {name} {' '.join(words)}\n")
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen(
        [sys.executable, "-m", f"milpath.{name}", *words], cwd=cwd, env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"milpath {name} ended with status {process.returncode}")
    return Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3)


def slope(used: list[Usage], counts: list[int]) -> float:
    """Return the CPU seconds of one more."""
    return (used[1].cpu_s - used[0].cpu_s) / (counts[1] - counts[0])
