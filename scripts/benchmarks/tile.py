"""Tiling of slides: one level against the published recipe, slides per second end to end, tissue search, peak memory.

The pyramids are generated: level 2 is a real one (`--slide PNG`) or synthetic tissue of the usual size, levels 1 and 0 are
the same image enlarged 4 and 16 times, in JPEG tiles of 512 px as in PANDA. The published tile set was made with
scikit-image's `MultiImage(path)[-1]` and numpy; tifffile can read only that page. The slides are in the page cache, so disk
speed is not measured.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from benchmarks.timing import record, seconds_each
from milpath.data.sources.synthetic import SyntheticBags
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.tile_selection import cut_darkest

JPEG_TILE = 512
LEVEL2_SHAPE = (2048, 1494)
HUGE_SHAPE = (80_000, 100_000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slide", type=Path, help="a level 2 as PNG (default: synthetic tissue of 2048 x 1494 px)")
    parser.add_argument("--svs", type=Path, help="also cut this slide by tissue")
    parser.add_argument("--slides", type=int, default=300, help="slides of an end-to-end run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip", nargs="*", choices=["recipe", "end_to_end", "tissue"], default=[])


def run(options: argparse.Namespace) -> list[dict]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        level2 = real_level(options.slide) if options.slide else drawn_level()
        slide = folder / "panda" / "slide_0000.tiff"
        write_pyramid(slide, level2, (16, 4, 1))
        records = []
        if "recipe" not in options.skip:
            records += against_recipe(slide, options.repeats)
        if "end_to_end" not in options.skip:
            records += end_to_end(slide, folder, options.slides, options.repeats)
        if "tissue" not in options.skip:
            records += tissue(folder, level2, options)
    return records


def against_recipe(slide: Path, repeats: int) -> list[dict]:
    """Read level 2 and cut it with the rule of the published tile set, alternating with scikit-image and numpy."""
    from skimage.io import MultiImage

    def library() -> np.ndarray:
        with open_slide(slide) as opened:
            last = len(opened.level_sizes) - 1
            image = opened.read(last, 0, 0, *opened.level_sizes[last])
        return cut_darkest(image).pixels

    def page_alone() -> np.ndarray:
        return recipe(tifffile.imread(slide, key=2))

    def published() -> np.ndarray:
        return recipe(MultiImage(str(slide))[-1])

    if not np.array_equal(library(), page_alone()):
        raise AssertionError("the two methods gave different tiles")
    # Releases of scikit-image differ in what MultiImage holds of a pyramid: all levels, or only the largest.
    height, width = MultiImage(str(slide))[-1].shape[:2]
    times = seconds_each({"published": published, "page alone": page_alone, "library": library}, repeats)
    words = f"MultiImage(path)[-1] and numpy, which gives {width:,} x {height:,} px"
    return [
        record(words, times["published"], "s"),
        record("tifffile.imread(path, key=2) and numpy", times["page alone"], "s"),
        record("milpath", times["library"], "s", times["published"] / times["library"], "MultiImage and numpy"),
        record("milpath", times["library"], "s", times["page alone"] / times["library"], "tifffile and numpy"),
    ]


def recipe(image: np.ndarray, size: int = 128, number: int = 16) -> np.ndarray:
    """Return the darkest tiles by the rule of the published tile set, implemented independently."""
    high, wide = -image.shape[0] % size, -image.shape[1] % size
    padding = ((high // 2, high - high // 2), (wide // 2, wide - wide // 2), (0, 0))
    image = np.pad(image, padding, constant_values=255)
    tiles = image.reshape(image.shape[0] // size, size, image.shape[1] // size, size, 3)
    tiles = tiles.transpose(0, 2, 1, 3, 4).reshape(-1, size, size, 3)
    return tiles[np.argsort(tiles.reshape(len(tiles), -1).sum(-1), kind="stable")[:number]]


def end_to_end(slide: Path, folder: Path, number: int, repeats: int) -> list[dict]:
    """Run the command on many slides with one and with two processes, and on a single slide."""
    for index in range(1, number):
        os.link(slide, slide.with_name(f"slide_{index:04}.tiff"))
    alone = folder / "alone"
    alone.mkdir()
    os.link(slide, alone / slide.name)
    runs: dict[str, list[Result]] = {"one slide": [], "1 process": [], "2 processes": []}
    for _ in range(repeats):
        runs["one slide"].append(tile(alone, folder / "store", "num_workers=1"))
        runs["1 process"].append(tile(slide.parent, folder / "store", "num_workers=1"))
        runs["2 processes"].append(tile(slide.parent, folder / "store", "num_workers=2"))
    # The start-up of the command (imports, configuration) does not depend on the number of slides.
    seconds = {name: statistics.median(result.seconds for result in results) for name, results in runs.items()}
    cpu = {name: statistics.median(result.cpu_seconds for result in results) for name, results in runs.items()}
    further = {name: (number - 1) / (seconds[name] - seconds["one slide"]) for name in ("1 process", "2 processes")}
    records = [record("the command on one slide", seconds["one slide"], "s")]
    for name in ("1 process", "2 processes"):
        ratio = (seconds["1 process"] / seconds[name], "1 process") if name != "1 process" else (None, None)
        records.append(record(f"{number} slides, {name}, start included", number / seconds[name], "slides/s", *ratio))
    for name in ("1 process", "2 processes"):
        ratio = (further["2 processes"] / further["1 process"], "1 process") if name != "1 process" else (None, None)
        records.append(record(f"each further slide, {name}", further[name], "slides/s", *ratio))
        used = 1000 * (cpu[name] - cpu["one slide"]) / (number - 1)
        records.append(record(f"CPU time of each further slide, {name}", used, "ms"))
    memory = max(result.worker_mb for result in runs["2 processes"])
    return [*records, record("peak memory per worker, darkest", memory, "MB")]


def tissue(folder: Path, level2: np.ndarray, options: argparse.Namespace) -> list[dict]:
    """Cut by tissue: a small scan, and a pyramid whose level 0 is too large to read as a whole."""
    huge = folder / "huge" / "huge.tiff"
    write_huge(huge, level2)
    runs = {f"{HUGE_SHAPE[1]:,} x {HUGE_SHAPE[0]:,} px": huge.parent}
    if options.svs:
        (folder / "svs").mkdir()
        shutil.copy(options.svs, folder / "svs")
        runs[options.svs.name] = folder / "svs"
    start = tile(folder / "alone", folder / "store", "num_workers=1") if (folder / "alone").exists() else None
    records = []
    for name, slides in runs.items():
        for words in (["level=0", "tile_size=256", "num_tiles=64"], ["microns_per_pixel=1", "num_tiles=null"]):
            result = tile(slides, folder / "store", "num_workers=1", "method=tissue", *words)
            what = f"tissue, {name}, {' '.join(words)}"
            against = (result.seconds / start.seconds, "the command on one slide, darkest") if start else (None, None)
            records.append(record(f"{what}: {result.num_tiles:,} tiles", result.seconds, "s", *against))
            records.append(record(f"CPU time, {what}", result.cpu_seconds, "s"))
            records.append(record(f"peak memory of the worker, {what}", result.worker_mb, "MB"))
    return records


class Result(NamedTuple):
    """One run of the command: wall time, CPU time, tiles, and memory of its largest worker."""

    seconds: float
    cpu_seconds: float
    num_tiles: int
    worker_mb: float


def tile(slides: Path, output: Path, *words: str) -> Result:
    """Run the command as a user does."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "milpath.tile", f"slides={slides}", f"output={output}", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        log.seek(0)
        said = log.read().decode()
    found = re.search(r"([\d,]+) MB peak memory per worker", said)
    if process.returncode or found is None:
        raise RuntimeError(f"{' '.join(command)} failed: {said[-2000:]}")
    tiles = np.load(output / "tiles.npy", mmap_mode="r")
    worker = float(found[1].replace(",", ""))
    return Result(seconds, usage.ru_utime + usage.ru_stime, len(tiles), worker)


def real_level(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def drawn_level() -> np.ndarray:
    """Return synthetic tissue on white, of the usual size of a level 2."""
    source, picture = SyntheticBags(), np.full((*LEVEL2_SHAPE, 3), 255, np.uint8)
    for strip in range(2):
        tiles = np.concatenate([source.draw_slide(3 * strip + number)[1] for number in range(3)])
        tissue_ = tiles[:48].reshape(12, 4, 128, 128, 3).swapaxes(1, 2).reshape(12 * 128, 4 * 128, 3)
        picture[240 : 240 + 12 * 128, 120 + strip * 720 :][:, : 4 * 128] = tissue_
    return picture


def write_pyramid(path: Path, level2: np.ndarray, factors: tuple[int, ...]) -> None:
    """Write a level enlarged by each factor, as pages of JPEG tiles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as writer:
        for factor in factors:
            shape = (level2.shape[0] * factor, level2.shape[1] * factor, 3)
            write_level(writer, encoded_tiles(level2, factor), shape, 0.5 * factors[0] / factor)


def write_level(writer: tifffile.TiffWriter, tiles: Iterator[bytes], shape: tuple[int, ...], microns: float) -> None:
    # As in PANDA, pages are not marked as levels of one pyramid: MultiImage treats each as an image.
    writer.write(
        tiles, shape=shape, dtype=np.uint8, tile=(JPEG_TILE, JPEG_TILE), photometric="rgb", compression="jpeg",
        metadata=None, resolution=(10_000 / microns,) * 2, resolutionunit="CENTIMETER",
    )  # fmt: skip


def encoded_tiles(level2: np.ndarray, factor: int) -> Iterator[bytes]:
    """Yield the JPEG tiles of a level that is an enlarged picture."""
    side = JPEG_TILE // factor
    for top in range(0, level2.shape[0], side):
        for left in range(0, level2.shape[1], side):
            part = level2[top : top + side, left : left + side].repeat(factor, 0).repeat(factor, 1)
            rest = ((0, JPEG_TILE - part.shape[0]), (0, JPEG_TILE - part.shape[1]), (0, 0))
            yield imagecodecs.jpeg8_encode(np.pad(part, rest, constant_values=255), level=70)


def write_huge(path: Path, level2: np.ndarray) -> None:
    """Write a pyramid of 8,000 million pixels: tissue repeated on level 0 where a small map of the slide has tissue."""
    path.parent.mkdir(parents=True)
    tissue_tile = darkest_square(level2)
    rows, columns = (-(-side // JPEG_TILE) for side in HUGE_SHAPE)
    y, x = np.mgrid[:rows, :columns]
    inside = ((y / rows - 0.5) / 0.3) ** 2 + ((x / columns - 0.5) / 0.35) ** 2 < 1
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for factor in (1, 4, 16):
            shape = tuple(-(-side // factor) for side in HUGE_SHAPE)
            small = [tissue_tile[::factor, ::factor], np.full_like(tissue_tile[::factor, ::factor], 255)]
            write_level(writer, mosaic(inside, small, shape, factor), (*shape, 3), 0.25 * factor)


def mosaic(inside: np.ndarray, pictures: list[np.ndarray], shape: tuple[int, ...], factor: int) -> Iterator[bytes]:
    """Yield the JPEG tiles of a level composed of small pictures; equal tiles are encoded once."""
    known: dict[bytes, bytes] = {}
    for row in range(-(-shape[0] // JPEG_TILE)):
        for column in range(-(-shape[1] // JPEG_TILE)):
            part = inside[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            part = np.pad(part, ((0, factor - part.shape[0]), (0, factor - part.shape[1])))
            key = part.tobytes()
            if key not in known:
                picture = np.concatenate([np.concatenate([pictures[int(not one)] for one in line], 1) for line in part])
                known[key] = imagecodecs.jpeg8_encode(np.ascontiguousarray(picture), level=80)
            yield known[key]


def darkest_square(level2: np.ndarray) -> np.ndarray:
    """Return a square of a JPEG tile's size, mirrored from the darkest tiles of a slide."""
    tiles = cut_darkest(level2, 128, 16).pixels
    return tiles.reshape(4, 4, 128, 128, 3).swapaxes(1, 2).reshape(JPEG_TILE, JPEG_TILE, 3)
