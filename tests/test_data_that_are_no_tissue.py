"""A network trained on drawn slides says so in words wherever it answers, and never that nobody need look."""

import io
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from milpath.data import FeatureBags, MnistBags, PandaTiles, SyntheticBags
from milpath.data.datamodule import BagDataModule
from milpath.data.sources.loose_tiles import build_tile_store
from milpath.data.store.bag_store import BagStore
from milpath.data.store.store_build import open_or_build
from milpath.encoding.extract_features import extract_features
from milpath.models import AttentionMIL, save_network
from milpath.models.card import Card, card_from_dict, card_to_dict
from milpath.models.checkpoint import load_card, update_card
from milpath.models.encoders.tile_cnn import TileCNN
from milpath.records.data_warning import SYNTHETIC, warning_in_words
from milpath.reports.page import write_report
from milpath.sagemaker import inference
from milpath.sagemaker.jobs.model_archive import write_model_dir
from milpath.viewer.result_page import render_answer
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import Limits
from tests.commands import SMALL_RUN, here
from tests.sagemaker.request_bodies import npy

SAID = "trained on synthetic slides: says nothing about real tissue"
BOTH = "Trained and evaluated on synthetic slides: says nothing about real tissue"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with a network trained on few drawn slides, and tiles of others."""
    folder = tmp_path_factory.mktemp("drawn")
    words = [*SMALL_RUN, "report=true", "trainer.max_epochs=1", "decision.defer_fraction=0.1", "run_name=r"]
    assert here("milpath.train", *words, cwd=folder) == 0
    SyntheticBags(num_slides=2, num_tiles=4, tile_size=32, drawing_seed=7).write_folder(folder / "png")
    return folder


@pytest.fixture(scope="module")
def checkpoint(run) -> Path:
    return run / "runs/r/checkpoints/best.ckpt"


def picture_heights(folder: Path) -> dict[str, int]:
    """The height of each picture in a folder."""
    heights = {}
    for path in folder.iterdir():
        with Image.open(path) as picture:
            heights[path.name] = picture.height
    assert heights
    return heights


def test_a_store_of_drawn_slides_its_features_and_their_files_say_so_and_a_mixture_counts_as_drawn(tmp_path):
    source = SyntheticBags(num_slides=4, num_tiles=4, tile_size=32)
    store = open_or_build(source, tmp_path / "stores")
    assert store.warning == SYNTHETIC
    assert json.loads((store.path / "store.json").read_text())["warning"] == SYNTHETIC
    card = {"name": "tile_cnn", "embedding_dim": 8}
    extract_features(
        store.path, tmp_path / "features", TileCNN(tile_size=32, embedding_dim=8).eval(), card, formats=["store", "h5"]
    )
    assert BagStore.open(tmp_path / "features").warning == SYNTHETIC
    files = sorted((tmp_path / "features/h5").glob("*.h5"))
    with h5py.File(files[0], "r+") as file:
        del file.attrs["milpath_warning"]
    labels = pd.DataFrame({"slide_id": [file.stem for file in files], "label": [0, 1, 0, 1]})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    features = FeatureBags(tmp_path / "features/h5", tmp_path / "labels.csv")
    datamodule = BagDataModule(features, num_folds=2, val_fraction=0, stores_dir=str(tmp_path / "stores"))
    datamodule.setup()
    assert datamodule.warning == SYNTHETIC


def test_image_files_of_drawn_tiles_say_so_in_every_store_of_them(run, checkpoint, tmp_path, capsys):
    png = run / "png"
    panda = open_or_build(PandaTiles(png / "train", png / "train.csv", tile_size=32, num_tiles=4), tmp_path / "stores")
    build_tile_store(png / "train", tmp_path / "loose", 32)
    card = {"name": "tile_cnn", "embedding_dim": 8}
    extract_features(png / "train", tmp_path / "features", TileCNN(tile_size=32, embedding_dim=8).eval(), card)
    stores = [panda, *(BagStore.open(tmp_path / name) for name in ("loose", "features"))]
    assert [store.warning for store in stores] == [SYNTHETIC] * 3
    # Saved again by another program, they no longer say it.
    (tmp_path / "plain").mkdir()
    for path in sorted((png / "train").glob("*.png")):
        Image.fromarray(np.array(Image.open(path))).save(tmp_path / "plain" / path.name)
    build_tile_store(tmp_path / "plain", tmp_path / "unknown", 32)
    assert BagStore.open(tmp_path / "unknown").warning == ""
    assert np.array_equal(BagStore.open(tmp_path / "unknown").tiles, stores[1].tiles)
    (tmp_path / "hostile").mkdir()
    said = PngInfo()
    said.add_text("milpath_warning", "two\nlines")
    for path in sorted((png / "train").glob("*.png")):
        Image.open(path).save(tmp_path / "hostile" / path.name, pnginfo=said)
    with pytest.raises(ValueError, match="the text milpath_warning of .* must be one line of at most 300 characters"):
        build_tile_store(tmp_path / "hostile", tmp_path / "no_store", 32)
    words = ["data=panda_tiles", f"data.tiles={png}/train", f"data.labels={png}/train.csv", "data.tile_size=32"]
    words += [
        "data.num_tiles=4",
        f"checkpoint={checkpoint}",
        "run_name=of_files",
        "trainer.accelerator=cpu",
        "report=false",
    ]
    assert here("milpath.evaluate", *words, "data.target=malignant", cwd=run) == 0
    assert BOTH.lower() in capsys.readouterr().out.lower()


def test_terminal_provenance_card_report_and_its_pictures_say_so(run, checkpoint, capsys):
    assert load_card(checkpoint).warning == SYNTHETIC
    assert json.loads((run / "runs/r/provenance.json").read_text())["data"]["warning"] == BOTH[0].lower() + BOTH[1:]
    page = (run / "runs/r/report.html").read_text()
    assert page.index(BOTH) < page.index("<h1>")
    words = [f"checkpoint={checkpoint}", "run_name=e", "trainer.accelerator=cpu", "report=true"]
    assert here("milpath.evaluate", *words, cwd=run) == 0
    assert BOTH.lower() in capsys.readouterr().out.lower()
    assert BOTH in (run / "runs/e/report.html").read_text()
    # The report written again says what the run recorded, and so do its pictures: a line of text makes them higher.
    tall = picture_heights(run / "runs/e/report_files")
    store = open_or_build(SyntheticBags(num_slides=24, num_tiles=4, tile_size=32), run / "stores")
    page = write_report(run / "runs/e", task="binary", store=store, num_resamples=2).read_text()
    assert BOTH in page
    assert picture_heights(run / "runs/e/report_files") == tall
    assert BOTH not in write_report(run / "runs/e", task="binary", store=store, num_resamples=2, warning="").read_text()
    assert all(height > picture_heights(run / "runs/e/report_files")[name] for name, height in tall.items())


def test_every_row_of_a_prediction_is_referred_to_a_person_and_says_why(run, checkpoint, capsys):
    words = [f"checkpoint={checkpoint}", "slides=png/train", "output=out", "device=cpu"]
    assert here("milpath.predict", *words, cwd=run) == 0
    assert f"warning: {SAID}" in capsys.readouterr().out
    table = pd.read_csv(run / "out/predictions.csv")
    assert table["defer"].tolist() == [1, 1]
    assert table["warning"].tolist() == [SAID, SAID]
    assert json.loads((run / "out/prediction.json").read_text())["warning"] == SAID


def test_pictures_and_outlines_for_qupath_say_so(run, checkpoint):
    from milpath.inference.pictures.bag_pictures import BagPictures
    from milpath.inference.predict_bags import BagPrediction

    store = open_or_build(SyntheticBags(num_slides=2, num_tiles=4, tile_size=32), run / "stores")
    bag = BagPrediction(0, store.bags["bag_id"][0], np.array([0.2, 0.8]), np.full(4, 0.25))
    heights = {}
    for name, warning in (("plain", ""), ("warned", SAID)):
        (run / name).mkdir()
        BagPictures(store, run / name, warning=warning).draw(bag)
        heights[name] = picture_heights(run / name / "pictures")
        outlines = json.loads(next((run / name / "geojson").iterdir()).read_text())
        said = [feature["properties"].get("metadata") for feature in outlines["features"]]
        assert said == [{"warning": SAID} if warning else None] * 4
    assert len(heights["plain"]) == 2
    assert all(heights["warned"][name] > heights["plain"][name] for name in heights["plain"])


def test_the_app_refers_to_a_person_and_never_says_no_deferral(run, checkpoint, tmp_path):
    analyst = Analyst(checkpoint, Limits())
    tiles = sorted((run / "png/train").glob("*.png"))[:4]
    answer = analyst.answer(tiles, tmp_path)
    page = render_answer(answer)
    assert answer.deferred
    assert page.index("Trained on synthetic slides") < page.index("Predicted <strong>")
    assert "Refer to a person, whatever the probability." in page
    assert page.count("rained on synthetic slides") == 1
    assert "No deferral" not in page
    pytest.importorskip("gradio")
    from milpath.viewer.gradio_page import _introduction

    assert "Trained on synthetic slides" in _introduction(analyst)


def test_the_endpoint_defers_and_says_so_in_json_and_npz(run, checkpoint, tmp_path):
    write_model_dir(checkpoint, tmp_path)
    endpoint = inference.model_fn(str(tmp_path))
    tiles = np.zeros((2, 32, 32, 3), np.uint8)
    content = json.loads(endpoint.answer(npy(tiles), "application/x-npy")[0])
    assert content["warning"] == SAID
    assert content["predictions"][0]["deferred"] is True
    body = endpoint.answer(npy(tiles), "application/x-npy", "application/x-npz")[0]
    with np.load(io.BytesIO(body)) as arrays:
        assert str(arrays["warning"]) == SAID
        assert arrays["deferred"].all()


def test_a_card_without_the_field_says_nothing_unless_its_data_are_drawn(tmp_path):
    card = card_to_dict(Card(network={}, class_names=("a", "b"), task="binary", warning=SYNTHETIC))
    assert card.pop("warning") == SYNTHETIC
    assert card_from_dict(card).warning == ""
    assert card_from_dict(card | {"data": {"_target_": "milpath.data.SyntheticBags"}}).warning == SYNTHETIC
    assert card_from_dict(card | {"data": {"_target_": "milpath.data.PandaTiles"}}).warning == ""
    assert "warning" not in card_to_dict(Card(network={}, class_names=("a", "b"), task="binary"))
    save_network(AttentionMIL("tile_cnn", num_outputs=1), tmp_path / "own.pt")
    assert load_card(tmp_path / "own.pt").warning == ""


@pytest.mark.parametrize("warning", ["x" * 301, "two\nlines", 7, ["list"], "escape \x1b[31m"])
def test_a_warning_of_somebody_else_is_one_bounded_line_of_text(warning):
    card = card_to_dict(Card(network={}, class_names=("a", "b"), task="binary"))
    with pytest.raises(ValueError, match="warning of the card must be one line of at most 300 characters"):
        card_from_dict(card | {"warning": warning})


def test_markup_in_a_warning_is_shown_as_text(run, checkpoint, tmp_path):
    hostile = "<script>alert(1)</script> ${oc.env:HOME}"
    copy = tmp_path / "hostile.ckpt"
    copy.write_bytes(checkpoint.read_bytes())
    update_card(copy, warning=hostile)
    page = render_answer(Analyst(copy, Limits()).answer(sorted((run / "png/train").glob("*.png"))[:4], tmp_path / "w"))
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; ${oc.env:HOME}" in page


def test_digits_say_what_they_are_in_their_own_words():
    assert warning_in_words(MnistBags.warning) == "trained on MNIST digits: says nothing about tissue"
