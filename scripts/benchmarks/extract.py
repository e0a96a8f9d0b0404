"""Extraction of features: the command's rate, the encoder alone on tiles in memory, and the usual way, in one run.

The usual way is that of TRIDENT and CLAM: coordinates in an HDF5 file, a DataLoader whose worker opens the slide with
OpenSlide and reads tile by tile, the network as published on batches as a DataLoader collates them, and one HDF5 file of
float32 features per slide. It gets the same coordinates, weights, batch size and number of processes. Slides are generated
pyramids (level 2 of realistic size, enlarged 4 and 16 times, in JPEG tiles of 512 px) and, with `--svs`, a scan. Memory is
measured with an encoder that costs nothing: what grows with a slide are tiles and features, not weights. Start-up (imports,
weights) is not counted; finding tissue, starting processes and writing are. On a machine whose cores are all busy a rate is
cores divided by CPU time, so that the CPU time per tile, of all processes together, also compares the ways on a machine
that is shared.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import openslide
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.tile import drawn_level, write_huge, write_pyramid
from benchmarks.timing import record
from milpath.data.store.bag_store import BagStore
from milpath.encoding.batch_encoder import BatchEncoder
from milpath.encoding.extract_features import extract_features
from milpath.models.encoders import open_encoder
from milpath.models.encoders.encoder_files import encoder_card
from milpath.models.encoders.pretrained_encoder import PretrainedEncoder
from milpath.slides.cut_slide import cut_slide
from milpath.slides.tiling_options import TileOptions

BATCH_SIZE = 16
MICRONS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--encoders", nargs="*", default=["efficientnet_lite0", "resnet50"])
    parser.add_argument("--tiles", type=int, default=300, help="tiles of each of two generated slides")
    parser.add_argument("--svs", type=Path, help="also a scan")
    parser.add_argument("--copies", type=int, default=8, help="copies of the scan, of which a small one has few tiles")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="tiles; the same for every way")
    parser.add_argument("--precision", default="32-true", help="of the command; the usual way computes in float32")
    parser.add_argument("--memory", nargs="*", type=int, default=[1_000, 20_000], help="numbers of tiles; none: skip")


def run(options: argparse.Namespace) -> list[dict]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        sets = {"generated": folder / "slides"}
        write_pyramid(folder / "slides" / "slide_0.tiff", drawn_level(), (16, 4, 1))
        shutil.copy(folder / "slides" / "slide_0.tiff", folder / "slides" / "slide_1.tiff")
        if options.svs:
            (folder / "svs").mkdir()
            for number in range(options.copies):
                shutil.copy(options.svs, folder / "svs" / f"{options.svs.stem} {number}{options.svs.suffix}")
            sets[options.svs.stem] = folder / "svs"
        records = []
        for encoder_name in options.encoders:
            encoder = opened_encoder(encoder_name).to(options.device)
            for what, slides in sets.items():
                records += rates(f"{encoder_name}, {what}", slides, folder, encoder, options)
        if options.memory:
            records += memory(folder, options.memory)
    return records


def opened_encoder(name: str) -> PretrainedEncoder:
    """Return the encoder, with random weights if its own are not on this machine: they change no time."""
    try:
        return open_encoder(name)
    except FileNotFoundError:
        return PretrainedEncoder(encoder_card(name)).eval().requires_grad_(False)


def rates(what: str, slides: Path, folder: Path, encoder: PretrainedEncoder, options: argparse.Namespace) -> list[dict]:
    """Return tiles per second of the three ways, alternating."""
    cut = TileOptions(method="tissue", num_tiles=options.tiles, tile_size=224, microns_per_pixel=MICRONS)
    tiles = cut_slide(next(iter(sorted(slides.iterdir()))), cut).pixels[: 4 * options.batch_size]
    found: dict[str, list[Cost]] = {"encoder alone": [], "extract": [], "the usual way": []}
    load = os.getloadavg()[0]
    for _ in range(options.repeats):
        found["encoder alone"].append(
            encoder_alone(tiles, encoder, options.tiles, options.precision, options.device, options.batch_size)
        )
        store, cost = extracted(slides, folder / "out", encoder, cut, options)
        found["extract"].append(cost)
        found["the usual way"].append(usual_way(slides, store, folder / "usual", encoder, options))
    rate = {name: statistics.median(cost.rate for cost in costs) for name, costs in found.items()}
    cpu = {name: statistics.median(cost.cpu_ms for cost in costs) for name, costs in found.items()}
    records = [record(f"{what}, load {load:.0f}: {name}", value, "tiles/s") for name, value in rate.items()]
    records += [record(f"{what}: {name}", value, "CPU ms/tile") for name, value in cpu.items()]
    for other in ("encoder alone", "the usual way"):
        # Within a turn: the machine's speed changes between turns.
        pairs = list(zip(found["extract"], found[other], strict=True))
        faster = statistics.median(ours.rate / theirs.rate for ours, theirs in pairs)
        cheaper = statistics.median(theirs.cpu_ms / ours.cpu_ms for ours, theirs in pairs)
        records.append(record(f"{what}: extract", rate["extract"], "tiles/s", faster, other))
        records.append(record(f"{what}: extract", cpu["extract"], "CPU ms/tile", cheaper, other))
    return records


class Cost(NamedTuple):
    """Tiles per second, and CPU time per tile of all processes."""

    rate: float
    cpu_ms: float


class Clock:
    """Measures a block of code, with the processes that it started and that have ended."""

    def __enter__(self) -> "Clock":
        self._wall, self._cpu = time.perf_counter(), sum(os.times()[:4])
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._wall
        self.cpu_seconds = sum(os.times()[:4]) - self._cpu

    def cost(self, num_tiles: int) -> Cost:
        return Cost(num_tiles / self.seconds, 1000 * self.cpu_seconds / num_tiles)


def encoder_alone(
    tiles: np.ndarray,
    encoder: PretrainedEncoder,
    num_tiles: int,
    precision: str,
    device: str = "cpu",
    batch_size: int = BATCH_SIZE,
) -> Cost:
    """Return the cost of full batches that are in memory, encoded as `extract` does."""
    batches = BatchEncoder(encoder, tiles.shape[1], device=device, precision=precision, batch_size=batch_size)
    batches.buffer[:] = tiles[:batch_size]
    batches.submit(batch_size)
    batches.finish()  # on a GPU the first batch also sets the libraries up
    with Clock() as clock:
        for number in range(max(1, num_tiles // batch_size)):
            first = number * batch_size % (len(tiles) - batch_size + 1)
            batches.buffer[:] = tiles[first : first + batch_size]
            batches.submit(batch_size)
        batches.finish()
    return clock.cost(max(1, num_tiles // batch_size) * batch_size)


def extracted(
    slides: Path, output: Path, encoder: PretrainedEncoder, cut: TileOptions, options: argparse.Namespace
) -> tuple[BagStore, Cost]:
    """Extract as the command does."""
    shutil.rmtree(output, ignore_errors=True)
    with Clock() as clock:
        extract_features(
            slides, output, encoder, encoder.card.to_dict(), cut, device=options.device, batch_size=options.batch_size,
            precision=options.precision,
        )  # fmt: skip
    store = BagStore.open(output)
    return store, clock.cost(len(store.tiles))


class TilesOfOneSlide(Dataset):
    """Tiles read one by one with OpenSlide, as float32 that the encoder normalises."""

    def __init__(self, slide: Path, coords: Path) -> None:
        self.slide, self.coords = slide, coords
        with h5py.File(coords) as file:
            self.length = len(file["coords"])
            self.size0 = int(file["coords"].attrs["patch_size_level0"])
        self.opened: openslide.OpenSlide | None = None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.opened is None:
            self.opened = openslide.OpenSlide(self.slide)
            self.level = self.opened.get_best_level_for_downsample(self.size0 / 224 + 0.01)
            self.side = round(self.size0 / self.opened.level_downsamples[self.level])
        with h5py.File(self.coords) as file:
            corner = tuple(int(value) for value in file["coords"][index])
        tile = self.opened.read_region(corner, self.level, (self.side, self.side)).convert("RGB").resize((224, 224))
        return torch.from_numpy(np.asarray(tile).copy()).permute(2, 0, 1).float() / 255


def usual_way(
    slides: Path, store: BagStore, output: Path, encoder: PretrainedEncoder, options: argparse.Namespace
) -> Cost:
    """Extract slide by slide with a DataLoader; the coordinates are given."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    bags = []
    for index, row in store.bags.iterrows():
        tiles = store.tile_rows(store.tile_slice(int(index)))
        coords = output / f"{row['bag_id']}_coords.h5"
        with h5py.File(coords, "w") as file:
            file["coords"] = tiles[["x0", "y0"]].to_numpy(np.int64)
            file["coords"].attrs["patch_size_level0"] = int(tiles["size0"].iloc[0])
        bags.append((slides / row["slide_file"], coords, output / f"{row['bag_id']}.h5"))
    with Clock() as clock:
        for slide, coords, target in bags:
            features = []
            with torch.inference_mode():
                tiles = TilesOfOneSlide(slide, coords)
                for batch in DataLoader(tiles, batch_size=options.batch_size, num_workers=1):
                    features.append(encoder(batch.to(options.device)).float().cpu().numpy())
            with h5py.File(target, "w") as file:
                file["features"] = np.concatenate(features).astype(np.float32)
    return clock.cost(len(store.tiles))


MEASURE = """
import sys, torch
from milpath.encoding.extract_features import extract_features
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.worker import peak_memory
class Free(torch.nn.Module):
    def forward(self, tiles):
        return tiles.mean((2, 3)).repeat(1, 512)
slides, output, count = sys.argv[1:]
options = TileOptions(method="tissue", num_tiles=int(count), tile_size=224, level=0)
card = {"name": "free", "embedding_dim": 1536}
summary = extract_features(slides, output, Free(), card, options, device="cpu")
print("peak", peak_memory(), summary.peak_memory)
"""


def memory(folder: Path, counts: list[int]) -> list[dict]:
    """Return the peak memory of both processes for bags of different sizes, of a slide of 100,000 x 80,000 px."""
    huge = folder / "huge" / "huge.tiff"
    write_huge(huge, drawn_level())
    records, first = [], None
    for count in counts:
        words = [sys.executable, "-c", MEASURE, str(huge.parent), str(folder / f"memory_{count}"), str(count)]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        parent, worker = (int(value) / 1e6 for value in re.search(r"peak (\d+) (\d+)", said).groups())
        description = json.loads((folder / f"memory_{count}" / "store.json").read_text())
        first = first or (parent, worker)
        name = f"peak memory, {description['num_tiles']:,} tiles"
        records.append(
            record(f"{name}: process of the encoder", parent, "MB", parent / first[0], f"{counts[0]:,} tiles")
        )
        records.append(record(f"{name}: process that reads", worker, "MB", worker / first[1], f"{counts[0]:,} tiles"))
    return records
