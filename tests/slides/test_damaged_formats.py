"""Damaged copies of every format, cut by the real workers: each is read, or refused by name; the parent never crashes."""

import random
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile

from milpath.data.store.bag_store import BagStore
from milpath.slides.slide_files import find_slides
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from tests.czi_files import JPEG_XR, write_czi
from tests.dicom_files import write_dicom_slide
from tests.drawn_data import draw_scan
from tests.mirax import write_mirax
from tests.ome_zarr import write_ome_zarr
from tests.pyramids import tissue
from tests.slides.test_damaged_slides import damage, tag_spans

# Starts worker processes, and reads hundreds of slides.
pytestmark = [pytest.mark.command, pytest.mark.slow]

NUM_DAMAGES = 60
# A slide that takes longer hangs.
MAX_SECONDS = 20.0


def draw(kind: str, folder: Path, real: Path | None) -> Path:
    """Write a slide of a format; return its file, or its folder for one of several files."""
    pixels = tissue(384, 512)
    if kind == "svs":
        return draw_scan(folder / "slide.svs", 480, 480, thumbnail=True)
    if kind == "ome":
        planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
        words = {"photometric": "minisblack", "tile": (64, 64), "compression": "zlib"}
        metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        with tifffile.TiffWriter(folder / "slide.ome.tif", ome=True) as writer:
            writer.write(planes, subifds=1, metadata=metadata, **words)
            writer.write(np.ascontiguousarray(planes[:, ::2, ::2]), subfiletype=1, **words)
        return folder / "slide.ome.tif"
    if kind == "dicom":
        write_dicom_slide(folder / "slide", pixels, levels=2)
        return folder / "slide"
    if kind == "czi":
        return write_czi(folder / "slide.czi", np.asarray(pixels), factors=(1, 2), codec=JPEG_XR)
    if kind == "zarr":
        # In a folder of its own: the slide is a folder.
        write_ome_zarr(folder / "slide.zarr", np.asarray(pixels)[::2, ::2], factors=(2, 1))
        return folder
    if kind == "mrxs":
        write_mirax(folder / "slide.mrxs", np.asarray(tissue(512, 512)), levels=2)
        return folder
    assert real is not None
    return Path(shutil.copy(real, folder / "slide.ndpi"))


def spans_of(path: Path) -> list[tuple[int, int]]:
    """Return where the bytes lie that decide everything."""
    if path.suffix in (".svs", ".tif", ".ndpi"):
        return tag_spans(path.read_bytes())
    if path.suffix == ".czi":
        content = path.read_bytes()
        return [(place.start(), 160) for place in re.finditer(b"ZISRAW|WMPHOTO", content)]
    return [(0, min(path.stat().st_size, 2048))]


def make_copies(original: Path, folder: Path, seeds: range) -> Path:
    """Write damaged copies, each under the number of its seed."""
    files = sorted(path for path in original.rglob("*") if path.is_file()) if original.is_dir() else [original]
    contents = {path: path.read_bytes() for path in files}
    spans = {path: spans_of(path) for path in files}
    for seed in seeds:
        random_ = random.Random(seed)
        broken = random_.choice(files)
        changes, length = damage(contents[broken], spans[broken], random_)
        for path, content in contents.items():
            data = bytearray(content)
            if path == broken:
                for offset, new in changes:
                    data[offset : offset + len(new)] = new
                del data[length:]
            relative = path.relative_to(original) if original.is_dir() else Path(path.name)
            target = folder / f"{seed:05}" / Path(str(relative).replace("slide", f"case{seed:05}", 1))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return folder


def cut_damaged(original: Path, kind: str, folder: Path, seeds: range) -> Counter[str]:
    """Cut damaged copies of a slide and count what came of them."""
    # Few pixels of the large real file.
    options = TileOptions(tile_size=64, num_tiles=8, level=-3 if kind == "ndpi" else 0)
    whole = find_slides(original)
    reference = BagStore.open(_cut(next(iter(whole.found.values())), folder / "reference", options)[0])
    slides = make_copies(original, folder / "slides", seeds)
    output, summary = _cut(slides, folder / "out", options)
    outcomes: Counter[str] = Counter(refused=len(summary.failures))
    for reason in summary.failures.values():
        assert "\n" not in reason
        assert len(reason) > 20, reason
        outcomes["crashed worker"] += "ended" in reason or "killed" in reason or "signal" in reason
        outcomes["timed out"] += "seconds" in reason
    if not summary.has_store:
        return outcomes
    store = BagStore.open(output)
    for index in range(len(store)):
        pixels = store.tiles[store.tile_slice(index)]
        same = pixels.shape == reference.tiles.shape and np.array_equal(pixels, reference.tiles)
        outcomes["equal" if same else "changed"] += 1
        assert pixels.min() < 200, f"{store.bags['bag_id'].iloc[index]}: a bag of white"
        difference = np.abs(np.sort(pixels.ravel()).astype(int) - np.sort(reference.tiles[:].ravel())).mean()
        outcomes["far from the original"] += bool(difference > 40)
    # No slide is lost: each is in the store or among the failures.
    found = find_slides(slides)
    assert len(store) + len(summary.failures) == len(found.found) + len(found.broken)
    assert len(found.found) + len(found.broken) + len(found.ignored) >= len(seeds) or kind == "dicom"
    return outcomes


def _cut(slides: Path, output: Path, options: TileOptions):
    summary = build_slide_store(
        slides, output, options, num_workers=2, on_error="skip", max_seconds=MAX_SECONDS, mixed_resolution="allow"
    )
    return output, summary


@pytest.mark.parametrize("kind", ["svs", "ome", "dicom", "mrxs", "ndpi", "czi", "zarr"])
def test_damaged_slides_of_every_format_are_read_or_refused_by_name(kind, tmp_path, request):
    real = None
    if kind == "ndpi":
        real = request.getfixturevalue("shared_data") / "wsi_fixtures" / "ndpi" / "test3-DAPI-2-387.ndpi"
    (tmp_path / "original").mkdir()
    original = draw(kind, tmp_path / "original", real)
    outcomes = cut_damaged(original, kind, tmp_path, range(NUM_DAMAGES))
    assert outcomes["timed out"] == 0, outcomes
    assert outcomes["refused"] + outcomes["equal"] + outcomes["changed"] >= NUM_DAMAGES * 0.9, outcomes
