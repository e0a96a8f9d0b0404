"""A stopped prediction goes on with the same slides wherever they lie, and with no others of the same name."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from milpath import predict
from milpath.config.roots import PredictConfig
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.inference import bag_call
from milpath.models import AttentionMIL, save_network
from tests.pyramids import tissue, write_pyramid

TILE = 16


class StoppedError(Exception):
    """Stands for the end of a process."""


def write_tiles(folder, seed):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for slide in "ab":
        for number in range(3):
            pixels = rng.integers(0, 255, (TILE, TILE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{slide}_{number}.png", compress_level=0)


def write_slides(folder, seed):
    for number, slide in enumerate("ab"):
        write_pyramid(folder / f"{slide}.tiff", tissue(80, 60, seed + number), factors=(2, 1))


def write_store(folder, seed):
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(seed)
    with BagStoreWriter(folder) as writer:
        for slide in "ab":
            writer.add(slide, rng.integers(0, 255, (3, TILE, TILE, 3), dtype=np.uint8), {})


def write_nested(folder, seed):
    """Tiles in a folder of the data set's own layout."""
    folder.mkdir(exist_ok=True)
    write_tiles(folder / "train", seed)


KINDS = {"tiles": write_tiles, "slides": write_slides, "store": write_store, "folder of tiles": write_nested}


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(1)  # some networks answer all noise alike
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": TILE, "embedding_dim": 8})
    tiling = {"method": "darkest", "tile_size": TILE, "num_tiles": 4, "level": -1}
    save_network(network, tmp_path / "network.pt", class_names=("benign", "malignant"), tiling=tiling)
    return tmp_path / "network.pt"


def run(folder, slides, **options):
    words = {"checkpoint": str(folder / "network.pt"), "slides": str(slides), "output": str(folder / "out")}
    words |= {"device": "cpu", "pictures": False, "num_workers": 1, "batch_size": 1} | options
    return predict.run(OmegaConf.merge(OmegaConf.structured(PredictConfig), words))


def stop_after_the_first_slide(folder, slides, monkeypatch):
    calls = iter([bag_call.decide])

    def decide(*words):
        for call in calls:
            return call(*words)
        raise StoppedError

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(bag_call, "decide", decide)
        run(folder, slides)
    assert (folder / "out/.predictions.csv.partial").read_text().count("\n") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_slides_that_moved_are_predicted_on_and_replaced_ones_are_refused(kind, checkpoint, tmp_path, monkeypatch):
    KINDS[kind](tmp_path / "in", seed=0)
    stop_after_the_first_slide(tmp_path, tmp_path / "in", monkeypatch)
    before = (tmp_path / "out/.predictions.csv.partial").read_text()
    # Other slides of the same names, sizes and times at the same path.
    shutil.copytree(tmp_path / "in", tmp_path / "moved")
    times = {path.name: path.stat() for path in (tmp_path / "in").rglob("*")}
    KINDS[kind](tmp_path / "in", seed=7)
    for path in (tmp_path / "in").rglob("*"):
        os.utime(path, ns=(times[path.name].st_atime_ns, times[path.name].st_mtime_ns))
    with pytest.raises(FileExistsError, match="set another output, or overwrite=true") as caught:
        run(tmp_path, tmp_path / "in")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "out/.predictions.csv.partial").read_text() == before
    assert run(tmp_path, tmp_path / "moved") == 0
    assert (tmp_path / "out/predictions.csv").read_text().startswith(before)
    gone_on = pd.read_csv(tmp_path / "out/predictions.csv")
    assert run(tmp_path, tmp_path / "moved", overwrite=True) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out/predictions.csv"), gone_on, atol=1e-6)
    assert run(tmp_path, tmp_path / "in", overwrite=True) == 0
    assert (pd.read_csv(tmp_path / "out/predictions.csv")["probability_malignant"] != gone_on.iloc[:, 2]).any()


def test_an_unfinished_prediction_that_does_not_know_its_slides_is_refused(checkpoint, tmp_path, monkeypatch):
    write_store(tmp_path / "in", seed=0)
    stop_after_the_first_slide(tmp_path, tmp_path / "in", monkeypatch)
    record = tmp_path / "out/prediction.json"
    digest = record.read_text().partition('"slides"')[0].rstrip(" ,\n") + "\n}\n"
    record.write_text(digest)
    with pytest.raises(FileExistsError, match="an unfinished prediction of other slides"):
        run(tmp_path, tmp_path / "in")


@pytest.mark.parametrize("packed", [False, True])
def test_a_slide_that_lacks_a_tile_is_named_and_the_others_are_predicted(packed, checkpoint, tmp_path):
    write_tiles(tmp_path / "in", seed=0)
    (tmp_path / "in/a_1.png").unlink()
    slides = shutil.make_archive(str(tmp_path / "tiles"), "zip", tmp_path / "in") if packed else tmp_path / "in"
    assert run(tmp_path, slides) == 1
    assert pd.read_csv(tmp_path / "out/predictions.csv")["id"].tolist() == ["b"]
    (reason,) = pd.read_csv(tmp_path / "out/failures.csv")["reason"]
    assert "has 2 tiles of this slide but none with the number 1; give all of them" in reason


@pytest.mark.parametrize("packed", [False, True])
def test_two_tiles_of_one_number_are_neither_predicted_nor_taken_for_slides(packed, checkpoint, tmp_path):
    write_tiles(tmp_path / "in", seed=0)
    shutil.copy(tmp_path / "in/a_2.png", tmp_path / "in/a_02.png")
    slides = shutil.make_archive(str(tmp_path / "tiles"), "zip", tmp_path / "in") if packed else tmp_path / "in"
    with pytest.raises(ValueError, match=r"'a_0?2\.png' and 'a_0?2\.png', which are the same name or number"):
        run(tmp_path, slides)
    assert not (tmp_path / "out").exists()


def test_tiles_may_count_from_one(checkpoint, tmp_path):
    write_tiles(tmp_path / "in", seed=0)
    for slide in "ab":
        (tmp_path / f"in/{slide}_0.png").rename(tmp_path / f"in/{slide}_3.png")
    assert run(tmp_path, tmp_path / "in") == 0
    assert pd.read_csv(tmp_path / "out/predictions.csv")["id"].tolist() == ["a", "b"]


def test_a_run_killed_before_its_last_picture_draws_it_when_it_goes_on(checkpoint, tmp_path, monkeypatch):
    write_slides(tmp_path / "in", 0)

    def stop(*_):
        raise StoppedError

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr("milpath.inference.pictures.bag_pictures.BagPictures.draw_extremes", stop)
        run(tmp_path, tmp_path / "in", pictures=True)
    assert not (tmp_path / "out/predictions.csv").exists()
    run(tmp_path, tmp_path / "in", pictures=True)
    run(tmp_path, tmp_path / "in", pictures=True, output=str(tmp_path / "whole"))
    for name in ("pictures/extremes.jpg", "predictions.csv", "attention.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_prediction_goes_on_with_the_pictures_it_began_with(checkpoint, tmp_path, monkeypatch):
    write_store(tmp_path / "in", seed=0)
    stop_after_the_first_slide(tmp_path, tmp_path / "in", monkeypatch)
    with pytest.raises(
        FileExistsError, match=r'which slides that are finished would keep: formats=\[\] \(now \["asap"\]\); set'
    ):
        run(tmp_path, tmp_path / "in", formats=["asap"])
    assert run(tmp_path, tmp_path / "in", colour_map="magma", batch_size=1) == 0  # nothing is drawn with it
