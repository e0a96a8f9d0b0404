import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.inference.pictures.bag_pictures import file_name
from milpath.inference.prediction_files import PredictionFiles
from milpath.models import AttentionMIL, load_network, save_network
from tests.pyramids import tissue, write_pyramid

EVIL = "../<script>alert(1)</script>"
SOURCE = {"checkpoint": "1", "slides": "here"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    rng = np.random.default_rng(0)
    with BagStoreWriter(folder / "store", extra={"microns_per_pixel": 8.0, "downsample": 16.0}) as writer:
        for name, length in (("slide a", 4), ("one tile", 1), (EVIL, 3)):
            places = {"x": np.arange(length) * 32, "y": np.full(length, 7), "level": np.full(length, 2)}
            writer.add(name, rng.integers(0, 255, (length, 32, 32, 3), dtype=np.uint8), {}, places)
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8})
    tiling = {"tile_size": 32}
    save_network(
        network,
        folder / "network.pt",
        class_names=("benign", "malignant"),
        threshold=0.4,
        defer_below=0.6,
        tiling=tiling,
    )
    return folder


@pytest.fixture(scope="module")
def output(workplace) -> Path:
    from omegaconf import OmegaConf

    from milpath.config.roots import PredictConfig
    from milpath.predict import run

    words = {
        "checkpoint": str(workplace / "network.pt"),
        "slides": str(workplace / "store"),
        "output": str(workplace / "out"),
    }
    words |= {"batch_size": 2, "device": "cpu"}
    assert run(OmegaConf.merge(OmegaConf.structured(PredictConfig), words)) == 0
    return workplace / "out"


def test_predictions_have_probability_threshold_and_advice(output):
    table = pd.read_csv(output / "predictions.csv")
    assert table["id"].tolist() == ["slide a", "one tile", EVIL]
    np.testing.assert_allclose(table["probability_benign"] + table["probability_malignant"], 1, atol=1e-6)
    assert (table["predicted"] == np.where(table["probability_malignant"] >= 0.4, "malignant", "benign")).all()
    confidence = table[["probability_benign", "probability_malignant"]].max(axis=1)
    assert (table["defer"] == (confidence < 0.6)).all()
    assert (table["threshold"] == 0.4).all()


def test_attention_of_each_slide_sums_to_one_and_has_its_place(output):
    table = pd.read_csv(output / "attention.csv")
    np.testing.assert_allclose(table.groupby("id")["weight"].sum(), 1, atol=1e-5)
    assert table["y"].eq(7).all()
    assert table["level"].eq(2).all()
    assert table["microns"].eq(8.0).all()


def test_outlines_lie_in_pixels_of_level_zero(output):
    collection = json.loads((output / "geojson/slide a.geojson").read_text())
    corners = collection["features"][1]["geometry"]["coordinates"][0]
    assert corners[0] == [32 * 16, 7 * 16]
    assert [feature["properties"]["objectType"] for feature in collection["features"]] == ["tile"] * 4 + ["annotation"]


def test_pictures_open_and_no_name_leaves_its_folder(output):
    names = {path.name for path in (output / "pictures").iterdir()}
    slides = (file_name(name) for name in ("slide a", "one tile", EVIL))
    assert names == {f"{name}_{kind}.jpg" for name in slides for kind in ("montage", "overlay")} | {"extremes.jpg"}
    with Image.open(output / "pictures/slide a_montage.jpg") as picture:
        assert picture.width > 100
    assert not list(output.parent.glob("*script*"))


def test_results_are_never_overwritten_unasked(output, workplace, run_here):
    words = [f"checkpoint={workplace}/network.pt", f"slides={workplace}/store", f"output={output}"]
    status, message = run_here("milpath.predict", *words, cwd=workplace)
    assert status == 1
    assert "overwrite=true" in message


def test_tiles_of_another_size_are_refused(workplace, run_here):
    save_network(AttentionMIL(), workplace / "large.pt", tiling={"tile_size": 128})
    words = [f"checkpoint={workplace}/large.pt", f"slides={workplace}/store", "output=other"]
    status, message = run_here("milpath.predict", *words, cwd=workplace)
    assert status == 1
    assert "trained on tiles of 128 px, but" in message


def test_a_stopped_prediction_goes_on_after_its_last_whole_slide(tmp_path):
    tiles = pd.DataFrame({"x": [0, 1], "y": [0, 1], "level": [0, 0]})
    weights = np.array([0.5, 0.5])

    def add(files, name):
        files.add(name, np.array([0.2, 0.8]), "b", False, tiles, None, weights)

    with pytest.raises(KeyboardInterrupt), PredictionFiles(tmp_path, ("a", "b"), 0.5, SOURCE) as files:
        add(files, "first")
        raise KeyboardInterrupt
    with (tmp_path / ".attention.csv.partial").open("a") as file:
        file.write("second,0,0,0")  # killed while it wrote
    with (tmp_path / ".predictions.csv.partial").open("a") as file:
        file.write("second,0.2")
    with pytest.raises(FileExistsError, match="of another checkpoint"):
        PredictionFiles(tmp_path, ("a", "b"), 0.5, SOURCE | {"checkpoint": "2"})
    files = PredictionFiles(tmp_path, ("a", "b"), 0.5, SOURCE)
    assert files.done == {"first"}
    with files:
        add(files, "second")
    assert pd.read_csv(tmp_path / "predictions.csv")["id"].tolist() == ["first", "second"]
    assert len(pd.read_csv(tmp_path / "attention.csv")) == 4


@pytest.fixture(scope="module")
def tile_folder(tmp_path_factory) -> Path:
    """Two slides as tiles: one of three, one of twelve."""
    folder = tmp_path_factory.mktemp("tiles") / "tiles"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name, length in (("a_b", 3), ("c", 12)):
        for number in range(length):
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}_{number}.png")
    return folder


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_tiles_that_were_cut_before_are_predicted_in_the_order_of_their_numbers(
    packed, workplace, tile_folder, tmp_path, run_here
):
    path = Path(shutil.make_archive(str(tmp_path / "tiles"), "zip", tile_folder)) if packed else tile_folder
    words = [f"checkpoint={workplace}/network.pt", f"slides={path}", "output=out", "device=cpu"]
    assert run_here("milpath.predict", *words, cwd=tmp_path)[0] == 0
    attention = pd.read_csv(tmp_path / "out/attention.csv")
    assert attention.groupby("id").size().to_dict() == {"a_b": 3, "c": 12}
    network = load_network(workplace / "network.pt")
    tiles = np.stack([np.asarray(Image.open(tile_folder / f"c_{number}.png")) for number in range(12)])
    with torch.inference_mode():
        expected = network(torch.from_numpy(tiles).permute(0, 3, 1, 2)[None] / 255).attention[0]
    found = attention.loc[attention["id"] == "c", "weight"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_slide_with_a_damaged_tile_is_named_and_the_others_are_predicted(workplace, tile_folder, tmp_path, run_here):
    tiles = tmp_path / "tiles"
    shutil.copytree(tile_folder, tiles)
    (tiles / "a_b_1.png").write_bytes((tiles / "a_b_1.png").read_bytes()[:200])
    words = [f"checkpoint={workplace}/network.pt", "slides=tiles", "output=out", "device=cpu"]
    status, message = run_here("milpath.predict", *words, cwd=tmp_path)
    assert status == 1
    assert "1 slide failed" in message
    assert pd.read_csv(tmp_path / "out/predictions.csv")["id"].tolist() == ["c"]
    failures = pd.read_csv(tmp_path / "out/failures.csv")
    assert failures["slide"].tolist() == ["a_b"]
    assert "a_b_1.png" in failures["reason"][0]
    assert run_here("milpath.predict", *words, "overwrite=true", "on_error=skip", cwd=tmp_path)[0] == 0


def test_a_folder_of_tiles_of_another_size_is_refused_before_anything_is_built(tile_folder, tmp_path, run_here):
    save_network(AttentionMIL(), tmp_path / "large.pt", tiling={"tile_size": 128})
    words = ["checkpoint=large.pt", f"slides={tile_folder}", "output=out"]
    status, message = run_here("milpath.predict", *words, cwd=tmp_path)
    assert status == 1
    assert "trained on tiles of 128 px, but" in message
    assert "contains tiles of 32 x 32 px" in message
    assert not (tmp_path / "out/bags").exists()


@pytest.fixture(scope="module")
def cutting(tmp_path_factory) -> Path:
    """A checkpoint that cuts slides, and three slides: a good one, a blank one, one that is none."""
    folder = tmp_path_factory.mktemp("cutting")
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8})
    tiling = {"method": "darkest", "tile_size": 16, "num_tiles": 4, "level": -1}
    save_network(network, folder / "network.pt", class_names=("benign", "malignant"), tiling=tiling)
    write_pyramid(folder / "slides/<script>good.tiff", tissue(80, 60), factors=(2, 1))
    write_pyramid(folder / "slides/blank.tiff", np.full((80, 60, 3), 250, np.uint8), factors=(2, 1))
    (folder / "slides/unreadable.tiff").write_bytes(b"II*\0 and then nothing")
    return folder


def test_a_blank_and_an_unreadable_slide_among_good_ones_are_named_and_the_others_predicted(
    cutting, tmp_path, run_here
):
    words = [
        f"checkpoint={cutting}/network.pt",
        f"slides={cutting}/slides",
        "output=out",
        "device=cpu",
        "num_workers=1",
    ]
    status, message = run_here("milpath.predict", *words, cwd=tmp_path)
    assert status == 1
    assert "2 slides failed, see out/failures.csv (first: 'blank': blank.tiff is blank" in message
    assert "Traceback" not in message
    assert pd.read_csv(tmp_path / "out/predictions.csv")["id"].tolist() == ["<script>good"]
    failures = pd.read_csv(tmp_path / "out/failures.csv").set_index("slide")["reason"]
    assert failures["blank"].startswith("blank.tiff is blank: all its tiles have one colour")
    assert "unreadable.tiff" in failures["unreadable"]
    pictures = sorted(path.name for path in (tmp_path / "out/pictures").iterdir())
    assert pictures == ["%3Cscript%3Egood_montage.jpg", "%3Cscript%3Egood_overlay.jpg", "extremes.jpg"]


def test_a_blank_slide_alone_is_one_line(cutting, tmp_path, run_here):
    words = [f"checkpoint={cutting}/network.pt", f"slides={cutting}/slides/blank.tiff", "output=out", "num_workers=1"]
    status, message = run_here("milpath.predict", *words, cwd=tmp_path)
    assert status == 1
    assert re.fullmatch(
        r"ValueError: none of the 1 slides at .* could be read, see .*failures.csv \(first: 'blank': .* is blank.*\)\n",
        message,
    )
    assert "blank,blank.tiff is blank" in (tmp_path / "out/failures.csv").read_text()


def test_a_bag_of_one_tile_has_all_its_attention_there(output):
    attention = pd.read_csv(output / "attention.csv")
    assert attention.loc[attention["id"] == "one tile", "weight"].tolist() == [1.0]
    assert pd.read_csv(output / "predictions.csv").set_index("id").loc["one tile", "probability_benign"] > 0
    for kind in ("montage", "overlay"):
        with Image.open(output / f"pictures/one tile_{kind}.jpg") as picture:
            assert picture.width > 100
    outlines = json.loads((output / "geojson/one tile.geojson").read_text())
    assert len(outlines["features"]) == 2, "the tile and the answer"


def test_names_with_markup_or_paths_stay_text_in_every_file(output):
    from milpath.inference.pictures.bag_pictures import file_name

    assert EVIL in pd.read_csv(output / "attention.csv")["id"].unique()
    written = [path for path in output.parent.rglob("*") if "script" in path.name]
    assert sorted(path.relative_to(output).as_posix() for path in written) == [
        f"geojson/{file_name(EVIL)}.geojson",
        f"pictures/{file_name(EVIL)}_montage.jpg",
        f"pictures/{file_name(EVIL)}_overlay.jpg",
    ]
    assert not [path for path in output.rglob("*") if path.suffix in (".html", ".svg")]


@pytest.mark.parametrize("there", ["pictures/mine.jpg", "bags/store.json", "failures.csv", "prediction.json"])
def test_a_folder_of_something_else_is_left_as_it_is(there, workplace, tmp_path, run_here):
    (tmp_path / "out" / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / there).write_text("{}")
    before = sorted((tmp_path / "out").rglob("*"))
    words = [f"checkpoint={workplace}/network.pt", f"slides={workplace}/store", "output=out", "device=cpu"]
    status, message = run_here("milpath.predict", *words, cwd=tmp_path)
    assert status == 1
    assert message.startswith("FileExistsError: out contains ")
    assert message.endswith("set another output, or overwrite=true\n")
    assert sorted((tmp_path / "out").rglob("*")) == before
    assert (tmp_path / "out" / there).read_text() == "{}"
    (tmp_path / "file").write_text("mine")
    status, message = run_here("milpath.predict", *words[:2], "output=file", cwd=tmp_path)
    assert (status, message) == (1, "FileExistsError: output=file is a file; set a folder\n")


def test_overwriting_leaves_nothing_of_the_prediction_before(workplace, tmp_path, run_here, tile_folder):
    words = [f"checkpoint={workplace}/network.pt", "output=out", "device=cpu"]
    assert run_here("milpath.predict", *words, f"slides={tile_folder}", cwd=tmp_path)[0] == 0
    assert (tmp_path / "out/pictures/c_montage.jpg").exists()
    status, _ = run_here("milpath.predict", *words, f"slides={workplace}/store", "overwrite=true", cwd=tmp_path)
    assert status == 0
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.name.startswith(("c_", "a_b"))]
    assert left == []
    assert not (tmp_path / "out/bags").exists()


def test_overwriting_never_deletes_the_slides_it_reads(workplace, tmp_path, run_here, tile_folder):
    words = [f"checkpoint={workplace}/network.pt", "output=out", "device=cpu", "pictures=false"]
    assert run_here("milpath.predict", *words, f"slides={tile_folder}", cwd=tmp_path)[0] == 0
    status, message = run_here("milpath.predict", *words, "slides=out/bags", "overwrite=true", cwd=tmp_path)
    assert status == 0, message
    assert len(pd.read_csv(tmp_path / "out/predictions.csv")) == 2


def test_a_mistake_in_the_slides_leaves_the_output_free_for_the_next_try(workplace, tmp_path, run_here):
    words = [f"checkpoint={workplace}/network.pt", "output=out", "device=cpu", "pictures=false"]
    assert run_here("milpath.predict", *words, "slides=no_such_folder", cwd=tmp_path)[0] == 1
    assert not (tmp_path / "out").exists()
    status, message = run_here("milpath.predict", *words, f"slides={workplace}/store", cwd=tmp_path)
    assert status == 0, message
