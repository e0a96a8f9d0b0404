"""What a person sees of a prediction: slides, drawn and real, from the file to the picture."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image, ImageDraw

from milpath.config.roots import PredictConfig
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.drawing.heatmap import category_colours
from milpath.drawing.picture_frame import FAINT, INK, MARGIN, RESEARCH_USE_ONLY, content_origin, font, scale_bar
from milpath.inference.pictures.bag_pictures import BagPictures, file_name
from milpath.inference.pictures.sharpest_bags import read_strongest
from milpath.inference.predict_bags import BagPrediction
from milpath.models import AttentionMIL, load_network
from milpath.predict import run as predict
from milpath.search.composition import compose_training
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import thumbnail
from milpath.train import run as train
from tests import qupath_rules
from tests.commands import SMALL_RUN
from tests.drawn_data import KAROLINSKA, RADBOUD

# Lightning and torch warn one of the other.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A network trained on drawn tissue, which cuts slides as PANDA was cut."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["trainer.max_epochs=2", "trainer.enable_progress_bar=false", "data.num_tiles=16", "run_name=run"]
    paths = [f"paths.runs_dir={folder / 'runs'}", f"paths.stores_dir={folder / 'stores'}"]
    train(compose_training([*SMALL_RUN, *words, *paths]))
    return folder / "runs/run/checkpoints/best.ckpt"


def _predict(checkpoint, slides, output, **words):
    words = {"checkpoint": str(checkpoint), "slides": str(slides), "output": str(output), "device": "cpu"} | words
    return predict(OmegaConf.merge(OmegaConf.structured(PredictConfig), {"num_workers": 1, "batch_size": 16} | words))


@pytest.fixture(scope="module")
def panda(checkpoint, panda_folder, tmp_path_factory) -> Path:
    output, folder = tmp_path_factory.mktemp("panda") / "out", panda_folder
    masks, labels = str(folder / "masks_level2"), str(folder / "labels.csv")
    assert _predict(checkpoint, folder / "level2", output, masks=masks, labels=labels, dense=0.5) == 0
    return output


@pytest.fixture(scope="module")
def scanned(checkpoint, scan, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("scan") / "out"
    assert _predict(checkpoint, scan, output, alpha=0.0) == 0
    return output


def _open(path):
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB")).astype(int)


def _near(picture, colour, distance=60):
    """Where a picture has a colour, but for what JPEG does to it."""
    return np.abs(picture - np.array(colour)).sum(axis=2) < distance


def _says_research_only(picture):
    words = Image.new("RGB", (int(font(12).getlength(RESEARCH_USE_ONLY)) + 1, 16), "white")
    ImageDraw.Draw(words).text((0, 0), RESEARCH_USE_ONLY, FAINT, font(12))
    wanted = np.asarray(words).astype(int)
    height, width = wanted.shape[:2]
    found = picture[:, MARGIN : MARGIN + width]
    return any(np.abs(found[y : y + height] - wanted).mean() < 4 for y in range(len(picture) - height))


def test_a_prediction_has_every_picture_and_each_says_what_it_is_not_for(panda, scanned, scan):
    names = {path.name for path in (panda / "pictures").iterdir()}
    kinds = ("montage", "overlay", "dense")
    assert names == {f"{slide}_{kind}.jpg" for slide in (RADBOUD, KAROLINSKA) for kind in kinds} | {"extremes.jpg"}
    assert {path.name for path in (scanned / "pictures").iterdir()} == {
        f"{scan.stem}_montage.jpg",
        f"{scan.stem}_overlay.jpg",
        "extremes.jpg",
    }
    for path in [*(panda / "pictures").iterdir(), *(scanned / "pictures").iterdir()]:
        picture = _open(path)
        assert 200 < min(picture.shape[:2]) <= max(picture.shape[:2]) < 1300, path
        assert _says_research_only(picture), path
    assert len(list((panda / "geojson").iterdir())) == 2


def test_the_slide_under_the_attention_is_the_slide_pixel_on_pixel(scanned, scan):
    with open_slide(scan) as slide:
        pixels, downsample = thumbnail(slide, 1000)
        microns = slide.microns_per_pixel * downsample
    left, top = content_origin(scan.stem)
    picture = _open(scanned / "pictures" / f"{scan.stem}_overlay.jpg")
    found = picture[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    # Without opacity nothing differs but the outlines, which are a pixel wide.
    assert (np.abs(found - pixels).max(axis=2) < 40).mean() > 0.97
    length, _ = scale_bar(microns, pixels.shape[1])
    row = picture[top + pixels.shape[0] + 8 + 7, left:]
    assert np.abs(_near(row[None], INK)[0].nonzero()[0][:length].max() - (length - 1)) <= 2


def test_the_truth_of_a_mask_stands_beside_the_attention(panda, panda_folder):
    with Image.open(panda_folder / "masks_level2" / f"{RADBOUD}_mask.png") as file:
        mask = np.asarray(file)
    picture = _open(panda / "pictures" / f"{RADBOUD}_overlay.jpg")
    with open_slide(panda_folder / "level2" / f"{RADBOUD}.png") as slide:
        pixels, _ = thumbnail(slide, 1000)
    height, width = pixels.shape[:2]
    left, top = content_origin("truth")
    # The truth stands to the right, in a frame of its own.
    start = picture.shape[1] - max(width, 280) - 2 * MARGIN + left
    truth = picture[top : top + height, start : start + width]
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(int)
    marked = mask[rows][:, columns] == 4
    colour = 0.4 * pixels + 0.6 * np.array(category_colours(1)[0])
    assert (np.abs(truth - colour).mean(axis=2)[marked] < 25).mean() > 0.9
    assert (np.abs(truth - pixels).mean(axis=2)[mask[rows][:, columns] == 0] < 25).mean() > 0.95
    overlay = _open(panda / "pictures" / f"{KAROLINSKA}_overlay.jpg")
    assert overlay.shape[1] < 1000, "a slide without a mask has no truth beside it"


def test_the_dense_map_covers_all_tissue_and_no_glass(panda, panda_folder):
    with open_slide(panda_folder / "level2" / f"{KAROLINSKA}.png") as slide:
        pixels, _ = thumbnail(slide, 1000)
    left, top = content_origin("dense")
    picture = _open(panda / "pictures" / f"{KAROLINSKA}_dense.jpg")
    found = picture[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    changed = np.abs(found - pixels).max(axis=2) > 30
    tissue = pixels.astype(int).max(axis=2) - pixels.astype(int).min(axis=2) > 60
    assert changed[tissue].mean() > 0.9
    assert changed.mean() < 0.6


def test_the_dense_map_is_a_table_and_tiles_for_qupath(panda):
    assert sorted(path.name for path in (panda / "dense").iterdir()) == sorted(
        f"{slide}.{ending}" for slide in (RADBOUD, KAROLINSKA) for ending in ("csv", "geojson")
    )
    table = pd.read_csv(panda / "dense" / f"{RADBOUD}.csv")
    assert table.columns.tolist() == ["x0", "y0", "size0", "weight"]
    assert table["weight"].sum() == pytest.approx(1, abs=1e-4)
    *tiles, answer = qupath_rules.read(panda / "dense" / f"{RADBOUD}.geojson")
    found = pd.DataFrame([[*each.roi.bounds[:2], each.measurements["attention"]] for each in tiles])
    np.testing.assert_allclose(found.to_numpy(), table[["x0", "y0", "weight"]].to_numpy(), rtol=1e-6)
    assert len(tiles) > len(qupath_rules.read(panda / "geojson" / f"{RADBOUD}.geojson"))
    row = pd.read_csv(panda / "predictions.csv").set_index("id").loc[RADBOUD]
    assert answer.name.startswith(f"{RADBOUD}: {row['predicted']}, probability ")


def test_what_needs_a_slide_is_refused_of_tiles_before_any_work(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"dense=0.5 needs whole slides"):
        _predict(checkpoint, _store(tmp_path), tmp_path / "out", dense=0.5)
    for words, message in (
        ({"alpha": 2.0}, "alpha=2.0"),
        ({"colour_map": "jet"}, "colour map 'jet'"),
        ({"formats": ["svg"]}, "'svg' must be one of geojson, asap, viewer"),
    ):
        with pytest.raises(ValueError, match=message):
            _predict(checkpoint, _store(tmp_path / message[:5]), tmp_path / "out", **words)
    assert not (tmp_path / "out/predictions.csv").exists()


def _store(folder):
    """Two slides of one store that were read at different levels."""
    tiles = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    places = {"x": np.array([0, 32, 64, 96]), "y": np.zeros(4), "level": np.zeros(4, int)}
    with BagStoreWriter(folder / "store") as writer:
        for name, downsample in (("near", 2.0), ("far", 16.0)):
            writer.add(name, tiles, {"downsample": downsample, "microns_per_pixel": downsample / 4}, places)
    return folder / "store"


def test_outlines_of_slides_read_at_different_levels_each_lie_in_their_own_level_zero(tmp_path):
    pictures = BagPictures(BagStore.open(_store(tmp_path)), tmp_path)
    for position, name in enumerate(("near", "far")):
        pictures.draw(BagPrediction(position, name, np.array([0.5, 0.5]), np.full(4, 0.25, np.float32)))
    for name, downsample in (("near", 2), ("far", 16)):
        outlines = json.loads((tmp_path / "geojson" / f"{name}.geojson").read_text())
        assert outlines["features"][1]["geometry"]["coordinates"][0][0] == [32 * downsample, 0]


def test_the_extremes_are_of_bags_called_positive_if_there_are_any(tmp_path):
    rows = ["a,0,0.9", "a,1,0.1", "b,0,0.6", "b,1,0.4", "c,0,0.7", "c,1,0.2", "c,2,0.1"]
    (tmp_path / "attention.csv").write_text("\n".join(["id,tile,weight", *rows]) + "\n")
    head = "id,predicted\n"
    (tmp_path / "predictions.csv").write_text(head + "a,benign\nb,malignant\nc,malignant\n")
    assert list(read_strongest(tmp_path, "benign", 6)) == ["c", "b"]
    assert read_strongest(tmp_path, "benign", 1)["c"].tolist() == [0.7, 0.2, 0.1]
    (tmp_path / "predictions.csv").write_text(head + "a,benign\nb,benign\nc,benign\n")
    assert list(read_strongest(tmp_path, "benign", 6)) == ["c", "a", "b"]


def test_the_dense_map_normalises_the_stains_of_the_slide_and_not_of_each_part(panda_folder, monkeypatch):
    from milpath.inference import dense_map
    from milpath.slides.tiling_options import TileOptions

    torch.manual_seed(0)
    target = {"mean": [65.0, 25.0, -15.0], "std": [12.0, 9.0, 6.0]}
    encoder = {"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8, "stain_normalisation": "reinhard"}
    network = AttentionMIL(encoder=encoder | {"stain_target": target}).eval()
    mapper = dense_map.DenseMapper(network, TileOptions(tile_size=32), 0.0)
    whole = mapper(panda_folder / "level2" / f"{RADBOUD}.png")
    assert network.tile_encoder.stains.num_bags == 1
    assert network.tile_encoder.stains.num_unchanged == 0
    monkeypatch.setattr(dense_map, "TILES_AT_A_TIME", 7)
    parts = mapper(panda_folder / "level2" / f"{RADBOUD}.png")
    np.testing.assert_allclose(parts.attention, whole.attention, atol=1e-6)


def test_the_dense_map_is_one_bag_whatever_the_parts_it_was_read_in(checkpoint, panda_folder, monkeypatch):
    from milpath.inference import dense_map
    from milpath.slides.tiling_options import TileOptions

    path, network = panda_folder / "level2" / f"{RADBOUD}.png", load_network(checkpoint)
    options = TileOptions(tile_size=32)
    whole = dense_map.DenseMapper(network, options, 0.5)(path)
    monkeypatch.setattr(dense_map, "TILES_AT_A_TIME", 7)
    parts = dense_map.DenseMapper(network, options, 0.5)(path)
    np.testing.assert_allclose(parts.attention, whole.attention, atol=1e-6)
    assert whole.attention.sum() == pytest.approx(1, abs=1e-4)
    assert np.isin(np.diff(np.unique(whole.x0)), (16, 32, 48)).all()
    assert len(whole.attention) > 2 * len(dense_map.DenseMapper(network, options, 0.0)(path).attention)
    with pytest.raises(ValueError, match=r"dense=1.0 must be at least 0 and below 1"):
        dense_map.DenseMapper(network, options, 1.0)


def test_a_name_that_no_file_system_takes_is_made_short_and_stays_apart(tmp_path):
    long = [file_name("é" * 300 + end) for end in ("a", "b")]
    assert len(set(long)) == 2
    assert all(len(name) < 200 for name in long)
