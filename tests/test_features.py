"""Features that somebody else made: trained on, evaluated and predicted as a data set like any other."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from milpath.data.store.bag_store import BagStore
from milpath.data.store.encoder_match import encoder_of
from milpath.encoding.extract_features import extract_features
from milpath.models import AttentionMIL, load_card, load_network, save_network
from milpath.records.digests import sha256_of_values
from milpath.slides.tiling_options import TileOptions
from tests.commands import here
from tests.feature_files import write_stamp, write_trident
from tests.pyramids import tissue, write_pyramid

SMALL = ["trainer.accelerator=cpu", "trainer.max_epochs=2", "logger=csv", "callbacks.progress=null", "report=false"]
DATA = ["data=features", "data.path=in/feats", "data.labels=in/labels.csv"]
CHECKPOINT = "checkpoint=runs/a/checkpoints/best.ckpt"


def slides(num: int = 24, width: int = 16) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    drawn = {}
    for number in range(num):
        features = rng.normal(size=(5 + number % 4, width)).astype(np.float32)
        features[:2, :4] += 3 * (number % 2)
        drawn[f"S{number:03d}"] = features, 512 * rng.integers(0, 90, (len(features), 2))
    return drawn


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A run of the shortest command for features, trained on files of TRIDENT."""
    folder = tmp_path_factory.mktemp("features")
    for name, (features, coords) in slides().items():
        write_trident(folder / f"in/feats/{name}.h5", features, coords)
        (folder / "in/feats" / f"._{name}.h5").write_bytes(b"\0\5\x16\7")  # what macOS leaves on other disks
    rows = [(name, number % 2) for number, name in enumerate(slides())]
    pd.DataFrame(rows, columns=["slide_id", "label"]).to_csv(folder / "in/labels.csv", index=False)
    assert here("milpath.train", *DATA, *SMALL, "run_name=a", cwd=folder) == 0
    return folder


def predict(workplace, source, output, *words):
    words = [CHECKPOINT, f"slides={source}", f"output={output}", "device=cpu", *words]
    return here("milpath.predict", *words, cwd=workplace)


@pytest.fixture(scope="module")
def predicted(workplace) -> pd.DataFrame:
    """What the network says about the store that it was trained on."""
    (store,) = (path for path in (workplace / "stores").iterdir() if path.is_dir())
    assert predict(workplace, store, "out/store") == 0
    return predictions_of(workplace / "out/store")


def predictions_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "predictions.csv").set_index("id").sort_index()


def attention_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "attention.csv").sort_values(["id", "tile"], ignore_index=True)


def test_features_train_without_another_word(workplace):
    network, card = (
        load_network(workplace / "runs/a/checkpoints/best.ckpt"),
        load_card(workplace / "runs/a/checkpoints/best.ckpt"),
    )
    assert (network.tile_encoder.name, network.tile_encoder.network.num_features) == ("linear", 16)
    wanted = {"name": "uni_v2", "embedding_dim": 16, "tile_size": 256, "microns_per_pixel": 0.5}
    assert card.encoder == wanted | {"magnification": 20}


def test_a_folder_of_features_is_predicted_like_its_store(workplace, predicted):
    assert predict(workplace, "in/feats", "out/h5") == 0
    pd.testing.assert_frame_equal(predictions_of(workplace / "out/h5"), predicted, atol=1e-6, rtol=0)
    pd.testing.assert_frame_equal(attention_of(workplace / "out/h5"), attention_of(workplace / "out/store"), atol=1e-6)


def test_attention_has_its_place_on_the_slide(workplace, predicted):
    attention = attention_of(workplace / "out/store")
    features, coords = slides()["S003"]
    own = attention[attention["id"] == "S003"]
    np.testing.assert_array_equal(own[["x0", "y0"]], coords)
    assert set(own["size0"]) == {512}
    assert own["weight"].sum() == pytest.approx(1, abs=1e-6)
    outlines = json.loads((workplace / "out/store/geojson/S003.geojson").read_text())["features"][:-1]
    assert len(outlines) == len(features)
    corners = np.array(outlines[2]["geometry"]["coordinates"][0])
    assert corners.min(axis=0).tolist() == coords[2].tolist()
    assert (corners.max(axis=0) - corners.min(axis=0)).tolist() == [512, 512]


@pytest.mark.parametrize("layout", ["nested", "half", "tensors", "one file"])
def test_other_layouts_give_the_same_predictions(layout, workplace, predicted, tmp_path):
    for number, (name, (features, coords)) in enumerate(slides().items()):
        if layout == "nested":
            write_trident(tmp_path / f"in/cohort_{number % 3}/{name}/{name}.h5", features[None], coords[None])
        elif layout == "half":
            write_trident(tmp_path / f"in/{name}.h5", features.astype(np.float16), coords)
        elif layout == "tensors":
            (tmp_path / "in/pt_files").mkdir(parents=True, exist_ok=True)
            torch.save(torch.from_numpy(features), tmp_path / f"in/pt_files/{name}.pt")
        elif name == "S003":
            write_trident(tmp_path / "in.h5", features, coords)
            (tmp_path / "in.h5").rename(tmp_path / "S003.h5")
    source = tmp_path / ("S003.h5" if layout == "one file" else "in")
    assert predict(workplace, source, tmp_path / "out") == 0
    found = predictions_of(tmp_path / "out")
    wanted = predicted.loc[found.index]
    assert len(found) == (1 if layout == "one file" else 24)
    numbers = [name for name in found.columns if name.startswith("probability")]
    np.testing.assert_allclose(found[numbers], wanted[numbers], atol=1e-3 if layout == "half" else 1e-6)


def test_labels_are_copied_and_slides_without_a_row_are_named(workplace, tmp_path, capsys):
    (tmp_path / "some.csv").write_text("slide_id,site\nS001,Aachen\nS002,Bonn\nX,Celle\n")
    assert predict(workplace, "in/feats", tmp_path / "out", f"labels={tmp_path}/some.csv", "on_error=skip") == 0
    assert predictions_of(tmp_path / "out").index.tolist() == ["S001", "S002"]
    assert pd.read_csv(tmp_path / "out/bags/bags.csv")["site"].tolist() == ["Aachen", "Bonn"]
    failures = pd.read_csv(tmp_path / "out/failures.csv").set_index("slide")["reason"]
    assert len(failures) == 23
    assert failures["X"].startswith("no features of this slide in in/feats")
    assert failures["S000"].endswith("some.csv has no row of this slide")
    assert "23 slides failed" in capsys.readouterr().err


def test_bad_files_are_listed_and_the_others_predicted(workplace, predicted, tmp_path, capsys):
    shutil.copytree(workplace / "in/feats", tmp_path / "feats")
    (tmp_path / "feats/S004.h5").write_bytes(b"damaged")
    write_trident(tmp_path / "feats/S007.h5", np.full((3, 16), np.nan, np.float32), np.zeros((3, 2)))
    words = [tmp_path / "feats", tmp_path / "out", "pictures=false"]
    assert predict(workplace, *words) == 1
    assert "2 slides failed" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "out/failures.csv")["slide"].tolist() == ["S004", "S007"]
    pd.testing.assert_frame_equal(predictions_of(tmp_path / "out"), predicted.drop(["S004", "S007"]), atol=1e-6)


def test_a_stopped_prediction_goes_on_with_the_same_features_only(workplace, tmp_path, capsys):
    shutil.copytree(workplace / "in/feats", tmp_path / "feats")
    words = [tmp_path / "feats", tmp_path / "out", "pictures=false"]
    assert predict(workplace, *words) == 0
    for name in ("predictions.csv", "attention.csv"):
        (tmp_path / "out" / name).rename(tmp_path / f"out/.{name}.partial")
    assert predict(workplace, *words) == 0
    for name in ("predictions.csv", "attention.csv"):
        (tmp_path / "out" / name).rename(tmp_path / f"out/.{name}.partial")
    write_trident(tmp_path / "feats/S003.h5", *slides()["S004"])
    assert predict(workplace, *words) == 1
    assert "was built from other features than the current ones" in capsys.readouterr().err


UNFIT = {
    "another encoder": ({"encoder": "conch_v1"}, "conch_v1 (16 values, tiles of 256 px, 0.5 microns per pixel)", "name"),
    "another tile size": ({"patch_size": 512}, "uni_v2 (16 values, tiles of 512 px, 0.5 microns per pixel)", "tile_size"),
    "another resolution": (
        {"target_magnification": 10}, "uni_v2 (16 values, tiles of 256 px, 1 microns per pixel)", "microns_per_pixel"
    ),
    "another width": ({}, "uni_v2 (12 values, tiles of 256 px, 0.5 microns per pixel)", "embedding_dim"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_features_of_another_kind_are_refused_with_both_cards(case, command, workplace, tmp_path, capsys):
    changes, found, differing = UNFIT[case]
    for name, (features, coords) in slides(width=12 if case == "another width" else 16).items():
        write_trident(tmp_path / f"feats/{name}.h5", features, coords, **changes)
    if command == "predict":
        assert predict(workplace, tmp_path / "feats", tmp_path / "out") == 1
    else:
        words = [
            "data=features",
            f"data.path={tmp_path}/feats",
            "data.labels=in/labels.csv",
            f"run_name={tmp_path.name}",
        ]
        assert here("milpath.evaluate", CHECKPOINT, *words, "trainer.accelerator=cpu", cwd=workplace) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "ValueError" in line]
    trained = "uni_v2 (16 values, tiles of 256 px, 0.5 microns per pixel)"
    assert f"has features of {found}, but runs/a/checkpoints/best.ckpt was trained on features of {trained}" in line
    assert f"they differ in {differing}: give features of the same encoder" in line


def test_the_same_encoder_under_the_name_of_another_program_fits(workplace, predicted, tmp_path):
    for name, (features, coords) in slides().items():
        # As STAMP would write tiles of this size and resolution.
        write_stamp(
            tmp_path / f"feats/{name}.h5", features, coords / 2, extractor="uni2", tile_size_um=128.0, tile_size_px=256
        )
    assert predict(workplace, tmp_path / "feats", tmp_path / "out") == 0
    found = predictions_of(tmp_path / "out")
    np.testing.assert_allclose(found["probability_1"], predicted["probability_1"], atol=1e-3)
    attention = attention_of(tmp_path / "out")
    assert set(attention["microns"]) == {0.5}
    np.testing.assert_allclose(attention.loc[attention["id"] == "S003", ["x", "y"]], slides()["S003"][1], rtol=1e-5)
    # Level 0 is not known: no outlines at a wrong place.
    assert not (tmp_path / "out/geojson").exists()


def test_what_is_unknown_is_said_and_not_refused(workplace, predicted, tmp_path, caplog):
    for name, (features, _) in slides().items():
        (tmp_path / "feats").mkdir(exist_ok=True)
        torch.save(torch.from_numpy(features), tmp_path / f"feats/{name}.pt")
    with caplog.at_level(logging.INFO, logger="milpath"):
        assert predict(workplace, tmp_path / "feats", tmp_path / "out") == 0
    assert "name, tile_size, microns_per_pixel of the features cannot be compared" in caplog.text
    pd.testing.assert_frame_equal(predictions_of(tmp_path / "out"), predicted, atol=1e-6)


def test_the_two_tables_of_a_study_need_no_third_one(workplace, capsys):
    """The tables of patients and slides of STAMP, under its names of the columns."""
    names = list(slides())
    of_slides = pd.DataFrame({"PATIENT": [f"P{number // 2}" for number in range(24)], "FILENAME": names})
    of_slides.assign(FILENAME=of_slides["FILENAME"] + ".h5").to_csv(workplace / "slide.csv", index=False)
    clini = pd.DataFrame({"PATIENT": [f"P{number}" for number in range(12)], "isMSIH": ["MSIH", "nonMSIH"] * 6})
    clini.to_csv(workplace / "clini.csv", index=False)
    words = ["data=features", "data.path=in/feats", "data.patients=clini.csv", "data.label_column=isMSIH", *SMALL]
    assert here("milpath.train", *words, cwd=workplace) == 1
    assert "data.labels must be given: add data.labels=..." in capsys.readouterr().err
    columns = ["data.patient_column=PATIENT", "data.slide_column=FILENAME", "data.bag_column=PATIENT"]
    assert here("milpath.train", *words, "data.slides=slide.csv", *columns, "run_name=study", cwd=workplace) == 0
    assert set(pd.read_csv(workplace / "runs/study/splits.csv")["id"]) == set(clini["PATIENT"])


def test_evaluation_of_the_folder_gives_the_numbers_of_the_run(workplace):
    words = [CHECKPOINT, *DATA, "trainer.accelerator=cpu", "report=false", "run_name=again", "splits=[train,val,test]"]
    assert here("milpath.evaluate", *words, cwd=workplace) == 0
    one, other = (json.loads((workplace / f"runs/{name}/metrics.json").read_text()) for name in ("a", "again"))
    assert other["test"] == pytest.approx(one["test"], abs=1e-6)


def test_data_with_excluded_bags_are_still_those_of_the_training(tmp_path):
    """Bags that a run excluded are in the folder that is evaluated: the split of the run is used, not every bag."""
    for name, (features, coords) in slides().items():
        write_trident(tmp_path / f"in/feats/{name}.h5", features, coords)
    rows = [(name, number % 2) for number, name in enumerate(slides())]
    pd.DataFrame(rows, columns=["slide_id", "label"]).to_csv(tmp_path / "in/labels.csv", index=False)
    (tmp_path / "in/bad.csv").write_text("slide_id\nS005\n")
    assert here("milpath.train", *DATA, *SMALL, "data.exclude=[in/bad.csv]", "run_name=a", cwd=tmp_path) == 0
    words = [CHECKPOINT, *DATA, "trainer.accelerator=cpu", "report=false", "run_name=again", "splits=[test]"]
    assert here("milpath.evaluate", *words, cwd=tmp_path) == 0
    one, other = (pd.read_csv(tmp_path / f"runs/{name}/predictions.csv") for name in ("a", "again"))
    assert other["id"].tolist() == one.loc[one["split"] == "test", "id"].tolist()


def test_each_kind_of_network_says_what_it_needs(workplace, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert predict(workplace, tmp_path / "empty", tmp_path / "out") == 1
    assert "the network takes features of uni_v2, but" in capsys.readouterr().err
    tiles = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8})
    save_network(tiles, tmp_path / "tiles.pt", tiling={"method": "darkest", "tile_size": 32, "num_tiles": 4})
    words = [f"checkpoint={tmp_path}/tiles.pt", "slides=in/feats", f"output={tmp_path}/other", "device=cpu"]
    assert here("milpath.predict", *words, cwd=workplace) == 1
    assert "in/feats holds features, but the network takes tiles; give slides or tiles" in capsys.readouterr().err


def test_an_encoder_of_tiles_is_refused_before_a_store_is_built(workplace, tmp_path, capsys):
    words = [*DATA, *SMALL, "model/encoder=resnet18", "run_name=b", f"paths.stores_dir={tmp_path}/stores"]
    assert here("milpath.train", *words, cwd=workplace) == 1
    assert (
        "the data are features, but the encoder resnet18 takes tiles; add model/encoder=linear"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "stores").exists()


def test_a_store_its_h5_files_and_those_of_stamp_are_predicted_alike(tmp_path):
    """The road back: what an extraction wrote in three forms gives one prediction, at one place of the slide."""
    for seed, name in enumerate("abc"):
        write_pyramid(tmp_path / f"slides/{name}.tiff", tissue(100 + 10 * seed, 90, seed))
    options = TileOptions(method="tissue", num_tiles=None, tile_size=32, microns_per_pixel=1.0)
    card = {"name": "mean", "embedding_dim": 3, "tile_size": 32, "microns_per_pixel": 1.0, "weights_sha256": "0" * 64}
    extracted = tmp_path / "extracted"
    words = {"formats": ("store", "h5", "stamp"), "device": "cpu"}
    extract_features(tmp_path / "slides", extracted, MeanColour(), card, options, **words)
    store = BagStore.open(extracted)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AttentionMIL(encoder={"name": "linear", "num_features": 3, "hidden_dims": [8]})
    trained = {"encoder": encoder_of(store), "tiling": store.description["tiling"]}
    save_network(network, tmp_path / "net.pt", **trained)
    for form in ("", "h5", "stamp"):
        words = ["checkpoint=net.pt", f"slides=extracted/{form}", f"output=out_{form}", "device=cpu"]
        assert here("milpath.predict", *words, cwd=tmp_path) == 0
    of_store, of_h5, of_stamp = (predictions_of(tmp_path / f"out_{form}") for form in ("", "h5", "stamp"))
    pd.testing.assert_frame_equal(of_h5, of_store, atol=1e-6)
    pd.testing.assert_frame_equal(of_stamp, of_store, atol=1e-6)
    places = ["id", "tile", "x0", "y0", "size0", "weight"]
    attention, again = (attention_of(tmp_path / f"out_{form}")[places] for form in ("", "h5"))
    assert len(attention) > 20
    pd.testing.assert_frame_equal(
        again, attention, atol=1.0, check_dtype=False
    )  # coordinates of TRIDENT are whole pixels
    for name in "abc":
        outlines = [json.loads((tmp_path / f"out_{form}/geojson/{name}.geojson").read_text()) for form in ("", "h5")]
        ours, theirs = (np.array([tile["geometry"]["coordinates"] for tile in one["features"]]) for one in outlines)
        np.testing.assert_allclose(theirs, ours, atol=1.0)
    # The same features of other weights, as an extraction into a store says them.
    save_network(
        network, tmp_path / "other.pt", **trained | {"encoder": encoder_of(store) | {"weights_sha256": "1" * 64}}
    )
    words = ["checkpoint=other.pt", "slides=extracted", "output=out_other", "device=cpu"]
    assert here("milpath.predict", *words, cwd=tmp_path) == 1
    assert not (tmp_path / "out_other").exists()


class MeanColour(torch.nn.Module):
    """The simplest encoder."""

    def forward(self, tiles):
        return tiles.mean((2, 3))


def test_a_run_of_an_earlier_version_with_excluded_bags_goes_on(workplace, tmp_path):
    """Its store held the excluded bags, and its identity those of the whole store."""
    shutil.copytree(workplace / "in", tmp_path / "in")
    (tmp_path / "in/bad.csv").write_text("slide_id\nS005\n")
    words = [*DATA, *SMALL, "data.exclude=[in/bad.csv]", "test=false", "run_name=a"]
    assert here("milpath.train", *DATA, *SMALL, "test=false", "run_name=whole", cwd=tmp_path) == 0
    assert here("milpath.train", *words, cwd=tmp_path) == 0
    whole, own = (json.loads((tmp_path / f"runs/{name}/identity.json").read_text()) for name in ("whole", "a"))
    assert own["contents"]["tiles_sha256"] != whole["contents"]["tiles_sha256"]
    own["contents"] |= {name: whole["contents"][name] for name in ("tiles_sha256", "bags_sha256")}
    record = {name: own[name] for name in ("format_version", "settings", "contents")}
    own["digest"] = sha256_of_values(record)
    (tmp_path / "runs/a/identity.json").write_text(json.dumps(own))
    assert here("milpath.train", *words, "trainer.max_epochs=3", "resume_from=auto", cwd=tmp_path) == 0
    words = [word for word in words if "exclude" not in word]
    assert here("milpath.train", *words, "trainer.max_epochs=4", "resume_from=auto", cwd=tmp_path) == 1


def test_an_unknown_format_is_refused_before_any_work(workplace, tmp_path, capsys):
    assert predict(workplace, "in/feats", tmp_path / "out", "formats=[geojsn]") == 1
    assert "formats=['geojsn']: 'geojsn' must be one of geojson, asap, viewer" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
