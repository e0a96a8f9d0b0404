"""Cost of slides and tiles in CPU time of one process, and of opening stores with millions of tiles, for `docs/scale.md`.

The functions that the commands call run in this process, warm, so that start-up is not in a figure, and CPU time changes
little with other work on the machine. A figure per tile is the difference between a larger and a smaller input. The scan is
given with `--svs`, or generated. The array of the large stores has one byte per tile.
"""

import argparse
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from benchmarks.extract import BATCH_SIZE, encoder_alone, opened_encoder
from benchmarks.tile import drawn_level, write_huge
from benchmarks.timing import record
from benchmarks.training_loops import train_step
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.store_digests import sealed_description
from milpath.inference.packed_linear import pack_linears
from milpath.inference.predict_bags import predict_bags
from milpath.inference.prediction_files import ATTENTION, PredictionFiles
from milpath.models import AttentionMIL
from milpath.records.atomic_files import write_json
from milpath.records.digests import sha256_of_file
from milpath.slides.cut_slide import cut_slide
from milpath.slides.tiling_options import TileOptions

NUM_FEATURES = 1280  # of efficientnet_lite0
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--svs", type=Path, help="a slide (default: a drawn one of 100,000 x 80,000 px)")
    parser.add_argument("--tiles", type=int, nargs=2, default=[8, 64], help="tiles that are cut from the scan")
    parser.add_argument("--bags", type=int, default=8, help="bags that are trained and predicted")
    parser.add_argument("--bag-tiles", type=int, default=2000)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 10_000_000], help="tiles of opened stores")
    parser.add_argument(
        "--many-slides", type=int, default=1_000_000, help="slides of one more opened store, ten tiles each"
    )
    parser.add_argument("--skip", nargs="*", choices=["slides", "features", "open"], default=[])


def run(options: argparse.Namespace) -> list[dict]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        records = []
        if "slides" not in options.skip:
            records += slides(folder, options.svs, options.tiles)
        if "features" not in options.skip:
            records += features(folder, options.bags, options.bag_tiles)
        if "open" not in options.skip:
            for rows in options.rows:
                records += opened(folder / f"store_{rows}", rows, max(rows // 5000, 1))
            if options.many_slides:
                records += opened(folder / "many", 10 * options.many_slides, options.many_slides)
        return records


def slides(folder: Path, scan: Path | None, counts: list[int]) -> list[dict]:
    """Return the cost of finding tissue, per slide, and of reading and encoding a tile of 256 px."""
    if scan is None:
        scan = folder / "huge/slide.tiff"
        write_huge(scan, drawn_level())
    cuts = [TileOptions(method="tissue", num_tiles=count, tile_size=256, level=0) for count in counts]
    cut_slide(scan, cuts[0])
    found = [least(lambda cut=cut: cut_slide(scan, cut)) for cut in cuts]
    tiles = cut_slide(scan, cuts[1]).pixels
    cut = [len(cut_slide(scan, each).pixels) for each in cuts]
    read = (found[1] - found[0]) / (cut[1] - cut[0])
    encoder = opened_encoder("efficientnet_lite0")
    encoded = encoder_alone(tiles, encoder, 2 * BATCH_SIZE, "32-true").cpu_ms / 1000
    return [
        record("find tissue, per slide", found[0] - cut[0] * read, "CPU s"),
        record("read, per tile", read, "CPU s"),
        record("encode with efficientnet_lite0, per tile", encoded, "CPU s"),
    ]


def features(folder: Path, num_bags: int, num_tiles: int) -> list[dict]:
    """Return the cost of a training step and of a prediction, per tile, and the sizes of their files."""
    store = feature_store(folder / "features", num_bags, num_tiles)
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "linear", "num_features": NUM_FEATURES, "hidden_dims": [512]}, gated=True)
    optimizer = torch.optim.AdamW(network.parameters())

    def train() -> None:
        for index in range(num_bags):
            tiles = torch.from_numpy(store.read(index)).float()[None]
            train_step(
                network, optimizer, SimpleNamespace(tiles=tiles, network_mask=None, labels=torch.ones(1)), "32-true"
            )

    packed = copy.deepcopy(network).eval()
    pack_linears(packed)

    def predict() -> None:
        shutil.rmtree(folder / "predicted", ignore_errors=True)
        with PredictionFiles(folder / "predicted", ("0", "1"), 0.5, {}) as files:
            for bag in predict_bags(packed, store, "binary", device="cpu"):
                rows = store.tile_rows(store.tile_slice(bag.position))
                files.add(bag.bag_id, bag.probabilities, "1", False, rows, 0.5, bag.attention)

    train(), predict()
    count = num_bags * num_tiles
    trained, predicted = least(train) / count, least(predict) / count
    return [
        record("train, per tile and epoch", trained, "CPU s"),
        record("predict, per tile", predicted, "CPU s"),
        record("features of 1,280 float16, per tile", (store.path / "tiles.npy").stat().st_size / count, "bytes"),
        record("row of attention.csv, per tile", (folder / "predicted" / ATTENTION).stat().st_size / count, "bytes"),
    ]


def least(function, turns: int = 3) -> float:
    """Return the least CPU time of some turns, which other processes lengthen and never shorten."""
    times = []
    for _ in range(turns):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def feature_store(path: Path, num_bags: int, num_tiles: int) -> BagStore:
    """Write bags of random features with places."""
    block = np.random.default_rng(0).standard_normal((num_tiles, NUM_FEATURES), np.float32).astype(np.float16)
    with BagStoreWriter(path, {"name": "features"}) as writer:
        for number in range(num_bags):
            places = {name: np.arange(num_tiles) * 256 for name in ("x", "y", "x0", "y0")}
            places |= {"level": np.zeros(num_tiles, np.int64), "size0": np.full(num_tiles, 256)}
            writer.add(f"bag_{number}", block, {"label": number % 2}, places)
    return BagStore.open(path)


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
    records = [
        record("SHA-256 of a file", rate, "GB/s"),
        record("row of tiles.csv, per tile", (path / "tiles.csv").stat().st_size / num_tiles, "bytes"),
    ]
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
