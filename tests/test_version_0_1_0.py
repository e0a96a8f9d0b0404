"""What version 0.1.0 wrote is read, and gives the numbers it gave then; tests/version_0_1_0/make.py says how it was written."""

import dataclasses
import hashlib
import importlib
import json
import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from milpath.data.store.bag_store import BagStore
from milpath.models import AttentionMIL, load_card, load_network

WRITTEN = Path(__file__).parent / "version_0_1_0"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text(encoding="utf-8"))
# Lightning says that a run goes on in another folder than the one it began in, and that a frozen encoder is in evaluation
# mode: both are meant.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings(r"ignore:Found \d+ module\(s\) in eval mode"),
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """The folder in which version 0.1.0 worked, moved: what names the folder names the new one, as the user would see to."""
    folder = tmp_path_factory.mktemp("version") / "0.1.0"
    shutil.copytree(WRITTEN, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for path in (path for path in folder.rglob("*") if path.suffix in (".json", ".yaml")):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(EXPECTED["root"], str(folder)), encoding="utf-8")
    for path in [*folder.glob("features/*"), *folder.glob("slides_with_a_broken_one/*")]:
        os.utime(path, ns=(EXPECTED["file_time"],) * 2)
    return folder


def numbers(*shape: int) -> torch.Tensor:
    """Return the numbers that the networks were asked about."""
    values = np.modf(np.arange(1, np.prod(shape) + 1) * 0.6180339887498949)[0]
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def metrics(run_dir: Path) -> dict:
    return json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))


def assert_equal_runs(first: Path, again: Path, splits: list[str], tolerance: float) -> None:
    """Compare metrics and predictions of two runs."""
    for split in splits:
        expected = metrics(first)[split]
        found = {name: metrics(again)[split][name] for name in expected}
        # Version 0.1.0 summed the calibration error in float32, in which a bag beside the edge of a bin may change sides. It
        # follows the probabilities, and so does the tolerance: 1.4e-4 apart on a processor without AVX-512.
        assert found.pop("ece") == pytest.approx(expected.pop("ece"), abs=max(tolerance, 1e-4))
        assert found == pytest.approx(expected, abs=tolerance)
    tables = [pd.read_csv(run / "predictions.csv", dtype={"id": str}).set_index("id") for run in (first, again)]
    before, now = (table[table["split"].isin(splits)] for table in tables)
    assert len(before) > 0
    now = now.loc[before.index]
    exact = ["split", "label", "predicted"]
    pd.testing.assert_frame_equal(now[exact], before[exact])
    probabilities = [name for name in before.columns if name.startswith("probability_")]
    np.testing.assert_allclose(now[probabilities], before[probabilities], atol=tolerance, rtol=0)
    for weights, weights_before in zip(now["attention"], before["attention"], strict=True):
        np.testing.assert_allclose(json.loads(weights), json.loads(weights_before), atol=tolerance, rtol=0)


def assert_close(now: Any, before: Any) -> None:
    """Compare what JSON holds: every key there was, numbers to 1e-6."""
    if isinstance(before, dict):
        assert before.keys() <= now.keys()
        for key in before:
            assert_close(now[key], before[key])
    elif isinstance(before, list):
        assert len(now) == len(before)
        for item, item_before in zip(now, before, strict=True):
            assert_close(item, item_before)
    else:
        assert now == (pytest.approx(before, abs=1e-6) if isinstance(before, float) else before)


def assert_equal_predictions(first: Path, again: Path) -> None:
    """Compare two folders of `milpath.predict`."""
    for name in ("predictions.csv", "attention.csv"):
        before, now = (pd.read_csv(folder / name) for folder in (first, again))
        pd.testing.assert_frame_equal(now[before.columns], before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("package", EXPECTED["public"])
def test_every_public_name_can_be_imported_from_where_it_was(package):
    assert len(EXPECTED["public"][package]) >= 10
    missing = [name for name in EXPECTED["public"][package] if not hasattr(importlib.import_module(package), name)]
    assert not missing


@pytest.mark.parametrize("name", EXPECTED["networks"])
def test_a_network_says_what_it_said(name):
    expected = EXPECTED["networks"][name]
    path = WRITTEN / "networks" / name
    path = path.with_name(f"{path.name}.pt") if "runs" not in name else path.with_name(f"{path.name}.ckpt").resolve()
    tiles = numbers(*expected["input"])
    mask = torch.ones(tiles.shape[:2], dtype=torch.bool)
    mask[1, 3:] = False
    with torch.inference_mode():
        output = load_network(path)(6 * tiles - 3 if tiles.ndim == 3 else tiles, mask)
    torch.testing.assert_close(output.logits, torch.tensor(expected["logits"]), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(output.attention, torch.tensor(expected["attention"]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [name for name in EXPECTED["networks"] if "runs" not in name])
def test_the_card_of_a_network_says_what_it_said(name):
    expected, card = EXPECTED["networks"][name], load_card(WRITTEN / "networks" / f"{name}.pt")
    assert card.network["name"] == expected["class"]
    for field in ("task", "temperature", "defer_below"):
        assert getattr(card, field) == expected[field]
    assert card.threshold == expected.get("threshold", 0.5)
    assert list(card.class_names) == expected["class_names"]


@pytest.mark.parametrize("name", EXPECTED["cards"])
def test_the_card_of_a_run_says_what_it_said(name):
    file = "last.ckpt" if name == "frozen" else "best.ckpt"
    card = dataclasses.asdict(load_card(WRITTEN / "runs" / name / "checkpoints" / file))
    expected = {key: value for key, value in EXPECTED["cards"][name].items() if key != "format_version"}
    assert {key: list(card[key]) if key == "class_names" else card[key] for key in expected} == expected


@pytest.mark.parametrize(
    "name",
    # The import of timm, which only this one needs, takes its time.
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "efficientnet_lite0" else name
        for name in EXPECTED["large_encoders"]
    ],
)
def test_the_weights_of_a_large_encoder_have_the_names_and_shapes_they_had(name):
    expected = EXPECTED["large_encoders"][name]
    assert expected["network"]["name"] == "AttentionMIL"
    with torch.device("meta"):
        network = AttentionMIL(**expected["network"]["arguments"])
    weights = sorted((key, list(value.shape)) for key, value in network.state_dict().items())
    assert len(weights) == expected["num_weights"]
    assert hashlib.sha256(json.dumps(weights).encode()).hexdigest() == expected["weights_sha256"]


@pytest.mark.parametrize(
    "name", sorted(path.parent.relative_to(WRITTEN).as_posix() for path in WRITTEN.rglob("store.json"))
)
def test_a_store_opens_and_holds_what_it_held(name):
    store = BagStore.open(WRITTEN / name)
    store.verify()
    tiles = np.load(WRITTEN / name / "tiles.npy")
    assert store.tiles.dtype == (np.uint8 if tiles.ndim == 4 else np.float32)
    assert sum(len(store.read(index)) for index in range(len(store))) == len(tiles) == len(store.tiles_table)
    np.testing.assert_array_equal(np.concatenate([store.read(index) for index in range(len(store))]), tiles)
    assert store.bags["bag_id"].is_unique
    assert {"label", "isup_grade"} & set(store.bags.columns)


@pytest.mark.parametrize("name", ["tiles", "features", "grades"])
def test_evaluate_gives_the_numbers_of_the_run(name, workplace, run_here):
    stores = {path.name for path in (workplace / "stores").iterdir() if path.is_dir()}
    words = [f"checkpoint=runs/{name}/checkpoints/best.ckpt", f"run_name={name}_again", "splits=[train,val,test]"]
    words += ["trainer.accelerator=cpu", "report=false"]
    assert run_here("milpath.evaluate", *words, cwd=workplace) == (0, "")
    assert_equal_runs(workplace / "runs" / name, workplace / f"runs/{name}_again", ["train", "val", "test"], 1e-6)
    assert {path.name for path in (workplace / "stores").iterdir() if path.is_dir()} == stores  # found, not built again


@pytest.mark.parametrize(
    "name", [name for name in EXPECTED["public"]["milpath.data"] if name.endswith(("Bags", "MIL", "Tiles", "Cancer"))]
)
def test_every_data_set_that_a_card_may_name_is_found(name, workplace, run_here):
    content = torch.load(WRITTEN / "networks/attention.pt", weights_only=True)
    content["milpath"]["data"] = {"_target_": f"milpath.data.{name}", "of_no_data_set": 1}
    torch.save(content, workplace / f"{name}.pt")
    status, message = run_here("milpath.evaluate", f"checkpoint={name}.pt", f"run_name={name}", cwd=workplace)
    assert status == 1
    assert "of_no_data_set" in message  # the class was asked, and takes no such argument
    assert "names no data set" not in message


@pytest.mark.parametrize("name", EXPECTED["resumed"])
def test_a_training_goes_on_as_it_went_on_then(name, workplace, run_here):
    words, file, epochs = EXPECTED["resumed"][name]
    stores = {path.name for path in (workplace / "stores").iterdir() if path.is_dir()}
    words = [*words, epochs, f"run_name={name}_resumed", f"resume_from=runs/{name}/checkpoints/{file}"]
    status, message = run_here("milpath.train", *words, cwd=workplace)
    assert status == 0, message
    # What is computed, not stored: another processor may round otherwise, and steps add that up. The temperature of `tiles`
    # is fitted again, to the logits; version 0.1.0 recovered them from rounded probabilities.
    tolerance = 5e-4 if name == "tiles" else 1e-5
    assert_equal_runs(
        workplace / f"runs/{name}_longer", workplace / f"runs/{name}_resumed", ["train", "val", "test"], tolerance
    )
    # Without AVX2, torch draws weights of other last bits, and features are kept by the weights of their encoder.
    if torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        assert {path.name for path in (workplace / "stores").iterdir() if path.is_dir()} == stores


@pytest.mark.slow
def test_a_search_finds_its_trials_finished(workplace, run_here):
    before = {path: path.stat().st_mtime_ns for path in (workplace / "runs/search").glob("trial_*/metrics.json")}
    assert len(before) == 2
    best = [line for line in (workplace / "runs/search/best.yaml").read_text().splitlines() if not line.startswith("#")]
    status, message = run_here("milpath.train", "-m", *EXPECTED["search"], cwd=workplace)
    assert status == 0, message
    assert {
        path: path.stat().st_mtime_ns for path in (workplace / "runs/search").glob("trial_*/metrics.json")
    } == before
    again = [
        line for line in (workplace / "runs/search/best.yaml").read_text().splitlines() if not line.startswith("#")
    ]
    assert again == best


def test_the_best_of_a_search_is_trained_again(workplace, run_here):
    shutil.copytree(WRITTEN / "runs/search", workplace / "found")
    words = ["--config-dir", "found", "--config-name", "best", "run_name=best"]
    status, message = run_here("milpath.train", *words, cwd=workplace)
    assert status == 0, message
    trials = pd.read_csv(WRITTEN / "runs/search/trials.csv")
    assert metrics(workplace / "runs/best")["val"]["auroc"] == pytest.approx(trials["val/auroc"].max(), abs=1e-6)


def test_a_table_finds_its_trainings_finished(workplace, run_here):
    before = {path: path.stat().st_mtime_ns for path in (workplace / "table").rglob("metrics.json")}
    assert len(before) == 4
    table = json.loads((workplace / "table/table.json").read_text())
    assert run_here("milpath.table", *EXPECTED["table"], cwd=workplace)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (workplace / "table").rglob("metrics.json")} == before
    again = json.loads((workplace / "table/table.json").read_text())
    assert again["complete"]
    assert_close(again["rows"], table["rows"])


def test_an_endpoint_answers_as_it_answered(tmp_path):
    from milpath.sagemaker.inference import input_fn, model_fn, output_fn, predict_fn

    shutil.unpack_archive(WRITTEN / "model.tar.gz", tmp_path, filter="data")
    body = BytesIO()
    np.save(body, 4 * numbers(5, 8).numpy())
    endpoint = model_fn(str(tmp_path))
    text, kind = output_fn(predict_fn(input_fn(body.getvalue(), "application/x-npy"), endpoint), "application/json")
    answer, expected = json.loads(text), EXPECTED["answer"]
    assert kind == "application/json"
    assert answer["class_names"] == expected["class_names"]
    (bag,), (bag_before,) = answer["predictions"], expected["predictions"]
    assert bag["attention"] == pytest.approx(bag_before["attention"], abs=1e-6)
    assert bag["probabilities"] == pytest.approx(bag_before["probabilities"], abs=1e-6)
    assert [bag[key] for key in ("label", "threshold", "deferred")] == [
        bag_before[key] for key in ("label", "threshold", "deferred")
    ]


PREDICT = ["checkpoint=runs/tiles/checkpoints/best.ckpt", "device=cpu", "pictures=false", "num_workers=1"]


@pytest.mark.parametrize(("slides", "folder"), [("slides", "predicted_slides"), ("bags", "predicted")])
def test_slides_and_bags_are_predicted_as_they_were(slides, folder, workplace, run_here):
    assert run_here("milpath.predict", *PREDICT, f"slides={slides}", f"output={slides}_again", cwd=workplace)[0] == 0
    assert_equal_predictions(WRITTEN / folder, workplace / f"{slides}_again")


def test_a_finished_prediction_is_not_overwritten(workplace, run_here):
    status, message = run_here("milpath.predict", *PREDICT, "slides=bags", "output=predicted", cwd=workplace)
    assert status == 1
    assert "overwrite=true" in message


def test_a_stopped_prediction_knew_its_slides_by_path_only_and_is_not_continued(workplace, run_here):
    partial = workplace / "predicted_half/.predictions.csv.partial"
    before = partial.read_bytes()
    words = [*PREDICT, "slides=bags", "output=predicted_half"]
    status, message = run_here("milpath.predict", *words, cwd=workplace)
    assert status == 1
    assert "contains an unfinished prediction of other slides; set another output, or overwrite=true" in message
    assert partial.read_bytes() == before
    assert run_here("milpath.predict", *words, "overwrite=true", cwd=workplace)[0] == 0
    assert_equal_predictions(WRITTEN / "predicted", workplace / "predicted_half")


def test_slides_are_cut_as_they_were_and_a_store_of_them_is_found_finished(workplace, run_here):
    words = ["slides=slides", "labels=slides.csv", *EXPECTED["cut"]]
    assert run_here("milpath.tile", *words, "output=bags_again", cwd=workplace)[0] == 0
    assert (workplace / "bags_again/tiles.npy").read_bytes() == (WRITTEN / "bags/tiles.npy").read_bytes()
    tiles, tiles_before = (pd.read_csv(folder / "tiles.csv") for folder in (workplace / "bags_again", WRITTEN / "bags"))
    pd.testing.assert_frame_equal(tiles.drop(columns=["x0", "y0", "size0"]), tiles_before)
    bags, bags_before = (pd.read_csv(folder / "bags.csv") for folder in (workplace / "bags_again", WRITTEN / "bags"))
    pd.testing.assert_frame_equal(bags.drop(columns=["slide_fingerprint", "bounds_x0", "bounds_y0"]), bags_before)
    before = (workplace / "bags/tiles.npy").stat().st_mtime_ns
    assert run_here("milpath.tile", *words, "output=bags", cwd=workplace)[0] == 0
    assert (workplace / "bags/tiles.npy").stat().st_mtime_ns == before


def test_a_stopped_tiling_goes_on_after_the_slides_it_had(workplace, run_here):
    slides = workplace / "slides_with_a_broken_one"
    for name in ("slide 0.png", "slide 2.png"):
        # Finished: known by size and time, and not read again, or these zeros would be seen.
        (slides / name).write_bytes(bytes((slides / name).stat().st_size))
        os.utime(slides / name, ns=(EXPECTED["file_time"],) * 2)
    shutil.copy(WRITTEN / "slides/slide 1.png", slides)
    words = ["slides=slides_with_a_broken_one", "output=bags_half", *EXPECTED["cut"]]
    assert run_here("milpath.tile", *words, cwd=workplace)[0] == 0
    store, whole = BagStore.open(workplace / "bags_half"), BagStore.open(WRITTEN / "bags")
    assert store.bags["bag_id"].tolist() == ["slide 0", "slide 1", "slide 2"]
    for index in range(3):
        np.testing.assert_array_equal(store.read(index), whole.read(index))
    # Rows written without places on level 0 get them; the slides are pictures of a single level.
    places = store.tiles_table[["x", "y", "x0", "y0", "size0"]].dropna()
    assert (places["x"] == places["x0"]).all()
    assert (places["y"] == places["y0"]).all()
    assert (places["size0"] == store.tile_shape[0]).all()
