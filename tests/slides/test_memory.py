"""Slides far larger than memory should be: the peak of a process that does nothing else."""

import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
import tifffile

from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_job import SlideJob
from milpath.tiling.worker_pool import cut_slides
from tests.pyramids import tissue, write_pyramid

WIDTH, HEIGHT, PIECE = 100_000, 80_000, 512
MB = 1 << 20


@pytest.fixture(scope="module")
def giant(tmp_path_factory):
    """A pyramid of 24 GB of pixels in a small file: pieces without tissue are left out, as some scanners do."""
    path = tmp_path_factory.mktemp("giant") / "giant.tiff"
    colours = np.linspace((230, 150, 200), (120, 40, 90), PIECE).astype(np.uint8)
    spot = imagecodecs.jpeg8_encode(np.broadcast_to(colours, (PIECE, PIECE, 3)).copy(), level=80)
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for number, factor in enumerate((1, 4, 16)):
            shape = (-(-HEIGHT // factor), -(-WIDTH // factor), 3)
            rows, columns = (range(-(-side // PIECE)) for side in shape[:2])
            # Of each level the pieces over one piece of the last.
            here = range(5 * 16 // factor, 6 * 16 // factor)
            pieces = (spot if row in here and column in here else b"" for row in rows for column in columns)
            writer.write(
                pieces, shape=shape, dtype=np.uint8, tile=(PIECE, PIECE), photometric="rgb", compression="jpeg",
                metadata=None, resolution=(40_000 / factor,) * 2, resolutionunit="CENTIMETER", subfiletype=int(number > 0),
            )  # fmt: skip
    assert path.stat().st_size < 10 * MB
    return path


@pytest.mark.parametrize(
    "options",
    [
        TileOptions("tissue", 64, 256, level=0),
        TileOptions("tissue", None, 128, microns_per_pixel=1.3),
        TileOptions("darkest", 16, 256, level=1),
    ],
    ids=lambda options: options.method,
)
def test_a_giant_slide_takes_no_more_memory_than_its_blocks(giant, tmp_path, options):
    job = SlideJob("giant", str(giant), str(tmp_path / "part"), None, None, None, options)
    (answer,) = cut_slides([job], 1)
    assert answer.error is None
    assert answer.num_tiles >= 16
    # Level 0 has 24 GB, level 1 1.5 GB, the last one 94 MB.
    assert answer.peak_memory < 400 * MB


def test_slides_need_neither_torch_nor_tables():
    """What a worker imports is what each of many workers holds."""
    code = "import sys, milpath.tiling.worker; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "pandas", "lightning", "hydra", "openslide", "sklearn", "scipy"} & set(modules)


def test_the_tenth_slide_takes_no_more_memory_than_the_second(tmp_path):
    path = write_pyramid(tmp_path / "a.tiff", tissue(2048, 1494), factors=(1,), tile=512)
    jobs = [
        SlideJob(f"{number}", str(path), str(tmp_path / f"{number}"), None, None, None, TileOptions())
        for number in range(10)
    ]
    peaks = [answer.peak_memory for answer in cut_slides(jobs, 1)]
    # The pixels of each are 9 MB.
    assert peaks[-1] - peaks[1] < 20 * MB
