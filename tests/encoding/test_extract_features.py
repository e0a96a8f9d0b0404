"""Slides to features: what is written, that nothing depends on batches, workers, shards or kills, and what is refused."""

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import level0_positions
from milpath.encoding.extract_features import extract_features, resolution_note, tile_options
from milpath.slides.cut_slide import cut_slide
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from milpath.tiling.worker_pool import Worker
from tests.pyramids import tissue, write_pyramid

CARD = {"name": "drawn", "embedding_dim": 6, "tile_size": 32, "microns_per_pixel": 1.0, "weights_sha256": "0" * 64}
OPTIONS = TileOptions(method="tissue", num_tiles=None, tile_size=32, microns_per_pixel=1.0)
NAMES = [f"slide {letter}" for letter in "cab"]


class Convolution(nn.Module):
    """A small encoder with seeded weights."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.requires_grad_(False).eval()

    def forward(self, tiles):
        assert tiles.shape[1:] == (3, 32, 32)
        assert 0 <= tiles.min() <= tiles.max() <= 1
        return self.layers(tiles)


@pytest.fixture(scope="module")
def encoder():
    return Convolution()


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides") / "Präparate, 2020"
    for seed, name in enumerate(NAMES):
        write_pyramid(folder / f"{name}.tiff", tissue(100 + 10 * seed, 90, seed))
    return folder


@pytest.fixture(scope="module")
def reference(slides, encoder, tmp_path_factory):
    output = tmp_path_factory.mktemp("reference") / "out"
    summary = extract_features(slides, output, encoder, CARD, OPTIONS, device="cpu", batch_size=5)
    assert (summary.num_cut, summary.has_store, dict(summary.failures)) == (3, True, {})
    return output


def content(output: Path) -> dict[str, str]:
    """Return the digest of every file of an output; that a store was verified is remembered beside it."""
    files = (path for path in output.rglob("*") if path.is_file() and path.name != ".verified.json")
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_features_are_those_of_the_tiles_cut_alone(slides, reference, encoder):
    store = BagStore.open(reference)
    assert store.tiles.dtype == np.float16
    assert store.bags["bag_id"].tolist() == sorted(NAMES)
    for index, name in enumerate(sorted(NAMES)):
        bag = cut_slide(slides / f"{name}.tiff", OPTIONS)
        with torch.inference_mode():
            expected = encoder(torch.from_numpy(bag.pixels).movedim(-1, 1) / 255).numpy()
        np.testing.assert_allclose(store.read(index), expected, atol=2e-3)
        places = level0_positions(store, store.tile_slice(index))
        np.testing.assert_allclose(places.x0, bag.places.x * bag.downsample, atol=0.5)
        assert places.size0 == 32 * bag.downsample


def test_the_store_holds_the_card_and_no_pixels(reference):
    description = json.loads((reference / "store.json").read_text())
    assert description["encoder"] == CARD | {"precision": "32-true"}
    assert description["tiling"] == OPTIONS.to_tiling()
    assert description["microns_per_pixel"] == pytest.approx(1.0)
    assert set(content(reference)) == {
        "tiles.npy", "bags.csv", "tiles.csv", "quality.csv", "store.json", "failures.csv", "overview/sheet_0001.jpg"
    }  # fmt: skip
    assert list(pd.read_csv(reference / "tiles.csv")) == [
        "bag_id", "x", "y", "level", "x0", "y0", "size0", "tissue_fraction"
    ]  # fmt: skip


@pytest.mark.parametrize("overwrite", [True, False])
def test_the_store_that_is_read_is_not_overwritten(slides, encoder, tmp_path, overwrite):
    store = tmp_path / "store"
    build_slide_store(slides, store, OPTIONS)
    before = content(store)
    words = {"device": "cpu", "overwrite": overwrite}
    with pytest.raises(ValueError, match="is the folder of slides=.*; set another output$"):
        extract_features(store, store, encoder, CARD, **words)
    assert content(store) == before
    tiles = tmp_path / "tiled/png"
    build_slide_store(slides, tmp_path / "tiled", OPTIONS, write_png=True)
    with pytest.raises(ValueError, match="tiled/png is .*tiled/png, which this command replaces itself"):
        extract_features(tiles, tmp_path / "tiled", encoder, CARD, **words)
    assert len(list(tiles.iterdir())) > 3


@pytest.mark.parametrize("words", [{"num_workers": 2}, {"num_workers": 3, "batch_size": 64}, {"batch_size": 1}])
def test_workers_and_batches_do_not_change_a_byte(slides, reference, encoder, tmp_path, words):
    extract_features(slides, tmp_path / "out", encoder, CARD, OPTIONS, device="cpu", **({"batch_size": 5} | words))
    assert content(tmp_path / "out") == content(reference)


def test_shards_fill_one_store(slides, reference, encoder, tmp_path):
    words = {"device": "cpu", "batch_size": 5}
    for number in (2, 3):
        summary = extract_features(slides, tmp_path, encoder, CARD, OPTIONS, shard=f"{number}/3", **words)
        assert not summary.has_store
    assert extract_features(slides, tmp_path, encoder, CARD, OPTIONS, shard="1/3", **words).has_store
    assert content(tmp_path) == content(reference)
    assert extract_features(slides, tmp_path, encoder, CARD, OPTIONS, **words).num_before == 3


def test_a_stored_bag_and_a_slide_give_the_same_features(slides, reference, encoder, tmp_path):
    build_slide_store(slides, tmp_path / "tiles", OPTIONS, num_workers=1)
    summary = extract_features(tmp_path / "tiles", tmp_path / "out", encoder, CARD, device="cpu", batch_size=5)
    assert (summary.num_slides, summary.has_store) == (3, True)
    for name in ("tiles.npy", "bags.csv", "tiles.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (reference / name).read_bytes(), name
    described = BagStore.open(tmp_path / "out").description
    assert described["encoder"] == CARD | {"precision": "32-true"}
    assert described["tiling"] == OPTIONS.to_tiling()


def test_image_files_of_tiles_give_the_same_features(slides, reference, encoder, tmp_path):
    options = TileOptions(tile_size=32, num_tiles=4)
    build_slide_store(slides, tmp_path / "tiles", options, num_workers=1, write_png=True)
    extract_features(tmp_path / "tiles", tmp_path / "stored", encoder, CARD, device="cpu", batch_size=5)
    (tmp_path / "tiles/png/slide a_2.png").rename(tmp_path / "tiles/png/slide z_0.png")
    summary = extract_features(
        tmp_path / "tiles/png", tmp_path / "out", encoder, CARD, device="cpu", batch_size=5, on_error="skip"
    )
    assert list(summary.failures) == ["slide a"]
    assert "none with the number 2" in summary.failures["slide a"]
    out, stored = BagStore.open(tmp_path / "out"), BagStore.open(tmp_path / "stored")
    assert out.bags["bag_id"].tolist() == ["slide b", "slide c", "slide z"]
    np.testing.assert_array_equal(out.read(0), stored.read(1))
    np.testing.assert_array_equal(out.read(1), stored.read(2))


def test_a_store_of_features_is_refused(reference, encoder, tmp_path):
    with pytest.raises(ValueError, match="holds 6 values per tile, not square RGB tiles"):
        extract_features(reference, tmp_path, encoder, CARD, device="cpu")


def test_slides_that_cannot_be_read_are_named_and_the_others_go_on(slides, encoder, tmp_path):
    shutil.copytree(slides, tmp_path / "in")
    (tmp_path / "in/empty.tiff").touch()
    write_pyramid(tmp_path / "in/glass.tiff", np.full((100, 90, 3), 255, np.uint8))
    unknown = tissue(100, 90)
    write_pyramid(tmp_path / "in/unknown.tiff", unknown, factors=(1,), resolutionunit="NONE")
    words = {"device": "cpu", "batch_size": 5}
    summary = extract_features(tmp_path / "in", tmp_path / "out", encoder, CARD, OPTIONS, **words)
    assert not summary.has_store
    assert set(summary.failures) == {"empty", "glass", "unknown"}
    assert "shows no tissue" in summary.failures["glass"]
    assert "does not state its microns per pixel; set slide_microns_per_pixel" in summary.failures["unknown"]
    assert extract_features(
        tmp_path / "in", tmp_path / "out", encoder, CARD, OPTIONS, on_error="skip", **words
    ).has_store
    assert BagStore.open(tmp_path / "out").bags["bag_id"].tolist() == sorted(NAMES)


def test_what_a_table_states_of_a_slide_counts_and_mixed_resolutions_are_refused(slides, encoder, tmp_path):
    table = tmp_path / "resolutions.csv"
    table.write_text("slide_id,microns_per_pixel\nslide a,0.25\n")
    words = {"device": "cpu", "resolutions": table}
    summary = extract_features(slides, tmp_path / "one", encoder, CARD, OPTIONS, **words)
    assert "tiles have 1 microns per pixel" in summary.notes
    assert "'slide a': the stated 0.25 microns per pixel are used instead of the 0.5 in the file" in summary.notes
    bags = BagStore.open(tmp_path / "one").bags.set_index("bag_id")
    assert bags["downsample"].to_dict() == pytest.approx({"slide a": 4.0, "slide b": 2.0, "slide c": 2.0})
    levels = TileOptions(method="tissue", num_tiles=None, tile_size=32, level=1)
    with pytest.raises(ValueError, match=r"tiles have 0\.5 to 1 microns per pixel \(slide a, slide b\)"):
        extract_features(slides, tmp_path / "two", encoder, CARD, levels, **words)
    assert extract_features(
        slides, tmp_path / "two", encoder, CARD, levels, mixed_resolution="allow", **words
    ).has_store


class NotFinite(Convolution):
    """Gives NaN for one colour of tiles."""

    def __init__(self, value) -> None:
        super().__init__()
        self.value = value

    def forward(self, tiles):
        features = super().forward(tiles)
        features[(tiles.mean((1, 2, 3)) < 0.05), 2] = self.value
        return features


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "nan"), (1e6, "inf")])
def test_features_that_are_not_finite_fail_their_slide(slides, tmp_path, value, said):
    shutil.copytree(slides, tmp_path / "in")
    dark = np.zeros((128, 90, 3), np.uint8)
    dark[60:] = tissue(68, 90, 1)
    write_pyramid(tmp_path / "in/dark.tiff", dark)
    options = TileOptions(method="grid", tile_size=32, microns_per_pixel=1.0)
    summary = extract_features(tmp_path / "in", tmp_path / "out", NotFinite(value), CARD, options, device="cpu")
    # Batches are filled up with black tiles, whose features belong to no slide.
    assert list(summary.failures) == ["dark"]
    assert f"the encoder gives {said} as feature 2 of tile" in summary.failures["dark"]


class SmallMemory(Convolution):
    """Stands for a GPU whose memory holds three tiles."""

    def forward(self, tiles):
        if len(tiles) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(tiles)


def test_a_batch_that_does_not_fit_into_memory_is_halved_and_said_once(slides, reference, tmp_path, caplog):
    extract_features(slides, tmp_path / "out", SmallMemory(), CARD, OPTIONS, device="cpu", batch_size=16)
    assert content(tmp_path / "out") == content(reference)
    said = [record.message for record in caplog.records if "batches of 16 tiles" in record.message]
    assert len(said) == 1


def test_a_reader_that_dies_or_hangs_fails_its_slide(slides, encoder, tmp_path, monkeypatch):
    original = Worker.give

    def give(self, job):
        if job.bag_id in ("slide b", "slide c"):
            os.kill(self._process.pid, signal.SIGSTOP)
        original(self, job)
        if job.bag_id == "slide c":
            os.kill(self._process.pid, signal.SIGSEGV)
            os.kill(self._process.pid, signal.SIGCONT)

    monkeypatch.setattr(Worker, "give", give)
    summary = extract_features(slides, tmp_path, encoder, CARD, OPTIONS, device="cpu", max_seconds=8.0)
    assert summary.failures["slide c"].startswith("reading it ended the process (SIGSEGV")
    assert summary.failures["slide b"] == "it gave no tile for 8 seconds"
    assert summary.num_cut == 1
    monkeypatch.undo()
    assert extract_features(slides, tmp_path, encoder, CARD, OPTIONS, device="cpu").has_store


def test_a_worker_waits_for_the_encoder_and_memory_holds_few_tiles(slides):
    """The queue and the pipe are bounded: a slide is not read to its end while nobody takes its tiles."""
    from milpath.encoding.slide_stream import SlideStream
    from milpath.tiling.slide_job import SlideJob

    big = TileOptions(method="grid", tile_size=256, level=0, num_tiles=None, overlap=250)
    jobs = [SlideJob(name, str(slides / f"{name}.tiff"), "", None, None, None, big) for name in NAMES]
    with SlideStream(jobs, 1) as stream:
        events = iter(stream)
        whole = next(events).record.num_tiles * 256 * 256 * 3
        assert whole > 80e6
        assert len(next(events).pixels) == 16
        time.sleep(2)
        assert _bytes_written(stream._readers[0]._worker._process.pid) < 30e6
    assert not any(reader.is_alive() for reader in stream._readers)


def _bytes_written(process: int) -> int:
    """Return how many bytes a process has written to pipes and files."""
    lines = Path(f"/proc/{process}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


def test_other_options_of_unfinished_work_are_refused(slides, encoder, tmp_path):
    extract_features(slides, tmp_path, encoder, CARD, OPTIONS, device="cpu", shard="1/3")
    with pytest.raises(ValueError, match="unfinished work with other options"):
        extract_features(slides, tmp_path, encoder, CARD | {"weights_sha256": "1" * 64}, OPTIONS, device="cpu")
    with pytest.raises(ValueError, match="unfinished work with other options"):
        extract_features(slides, tmp_path, encoder, CARD, OPTIONS, device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"formats": ["store", "csv"]}, "format=csv is unknown; it must be some of store, h5, stamp"),
        ({"formats": ["h5"]}, "lacks store"),
        ({"precision": "half"}, "precision=half is unknown"),
        ({"dtype": "int8"}, "dtype=int8 is unknown"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"batch_size": 10**9}, r"batch_size=1000000000 needs 15,360\.0 GB for tiles of 32 px, but this machine has"),
        ({"batch_size": 10**40}, "batch_size=1000000.* needs .* set a smaller one, or auto"),
        ({"max_seconds": 0}, "max_seconds=0 must be above 0"),
        ({"on_error": "ignore"}, "on_error=ignore is unknown"),
    ],
)
def test_options_that_make_no_sense_are_refused(slides, encoder, tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        extract_features(slides, tmp_path / "out", encoder, CARD, OPTIONS, **({"device": "cpu"} | words))
    assert not (tmp_path / "out").exists()
    # An earlier store is there still.
    (tmp_path / "out").mkdir()
    (tmp_path / "out/store.json").write_text("{}")
    with pytest.raises(ValueError, match=message):
        extract_features(
            slides, tmp_path / "out", encoder, CARD, OPTIONS, **({"device": "cpu", "overwrite": True} | words)
        )
    assert (tmp_path / "out/store.json").exists()


def test_size_and_resolution_are_those_of_the_encoder_unless_given():
    chosen = tile_options(CARD)
    assert (chosen.method, chosen.num_tiles, chosen.tile_size, chosen.microns_per_pixel) == ("tissue", None, 32, 1.0)
    assert tile_options(CARD, tile_size=64, level=1).microns_per_pixel is None
    with pytest.raises(ValueError, match="was not trained on slides and has no resolution of its own"):
        tile_options(CARD | {"microns_per_pixel": None})
    assert resolution_note(CARD, 1.2) is None
    assert "the tiles have 2 microns per pixel; the encoder drawn was trained at 1" in resolution_note(CARD, 2.0)


def test_tiles_of_another_size_are_refused_before_any_work(slides, encoder, tmp_path):
    card = CARD | {"other_tile_sizes": "refuse"}
    with pytest.raises(ValueError, match="the encoder drawn takes tiles of 32 px, not 64 px; set tile_size=32"):
        extract_features(slides, tmp_path, encoder, card, TileOptions(tile_size=64), device="cpu")
