"""What a container says of several targets, with prediction sets and unfamiliar slides, is what predict and evaluate write."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from milpath.data.store.bag_store import BagStore
from milpath.inference.predict_slides import predict_slides
from milpath.models import load_card
from milpath.sagemaker import inference
from milpath.sagemaker.jobs.model_archive import write_model_dir
from milpath.sagemaker.scoring.answer_tables import write_answer_tables
from tests.commands import here
from tests.drawn_targets import RUN, TARGETS, write_store
from tests.sagemaker.loopback_endpoint import served_as
from tests.sagemaker.request_bodies import npy

pytestmark = pytest.mark.command
NPY, NPZ = "application/x-npy", "application/x-npz"
BEST = "runs/r/checkpoints/best.ckpt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on several targets with prediction sets, in which half of the slides are unfamiliar, and its archive."""
    folder = tmp_path_factory.mktemp("answers")
    write_store(folder / "store", 48)
    words = [
        *RUN,
        *TARGETS["several"],
        "data.path=store",
        "data.val_fraction=0.4",
        "trainer.max_epochs=1",
        "report=false",
    ]
    decision = ["decision.coverage=0.6", "decision.refer_unfamiliar=0.5", "decision.defer_fraction=0.3"]
    assert here("milpath.train", *words, *decision, "run_name=r", cwd=folder) == 0
    write_model_dir(folder / BEST, folder / "model")
    return folder


@pytest.fixture(scope="module")
def endpoint(folder):
    return inference.model_fn(str(folder / "model"))


def read(path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"id": str}, keep_default_na=False).set_index("id")


def require_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert found.columns.tolist() == expected.columns.tolist()
    for name in found:
        if pd.api.types.is_float_dtype(expected[name]):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=2e-4, err_msg=name)
        else:
            assert found[name].tolist() == expected[name].tolist(), name


def test_the_tables_of_answers_are_those_of_predict(folder, endpoint):
    words = [f"checkpoint={BEST}", "slides=store", "output=predicted", "device=cpu", "pictures=false"]
    assert here("milpath.predict", *words, cwd=folder) == 0
    store = BagStore.open(folder / "store")
    names = store.bags["bag_id"].tolist()
    answers = ((name, endpoint.answer(npy(store.read(place)), NPY)[0]) for place, name in enumerate(names))
    write_answer_tables(folder / "answered", load_card(folder / BEST), answers, {})
    expected = read(folder / "predicted/predictions.csv")
    assert expected["unfamiliar"].nunique() == 2
    assert expected.loc[expected["unfamiliar"] == 1, ["grade/defer", "mutated/defer"]].to_numpy().min() == 1
    require_equal(read(folder / "answered/predictions.csv"), expected)
    found, expected = (read(folder / f"{name}/attention.csv") for name in ("answered", "predicted"))
    assert found.columns.tolist() == expected.columns.tolist()
    for name in found.columns[found.columns.get_loc("weight") :]:  # a rank in percent may be the next by rounding
        np.testing.assert_allclose(found[name], expected[name], atol=1 if name == "unfamiliarity" else 1e-5)


def test_a_scored_endpoint_has_the_table_and_the_metrics_of_its_evaluation(folder, monkeypatch, capsys):
    words = [f"checkpoint={BEST}", "run_name=e", "report=false", "trainer.accelerator=cpu", "splits=[val,test]"]
    assert here("milpath.evaluate", *words, cwd=folder) == 0
    data = [word for word in (*RUN, *TARGETS["several"]) if word.startswith("data")]
    data += ["data.path=store", "data.val_fraction=0.4", "splits=[val,test]"]
    capsys.readouterr()
    with served_as("slides", folder / "model", monkeypatch):
        assert (
            here("milpath.sagemaker.score", *data, "endpoint=slides", "run_name=s", "region=eu-central-1", cwd=folder)
            == 0
        )
    assert "no prediction sets for os: a censored time has no error" in capsys.readouterr().out
    scored, expected = (read(folder / f"runs/{name}/predictions.csv") for name in "se")
    lists = [name for name in expected if name.startswith("attention")]
    require_equal(scored.drop(columns=lists), expected.drop(columns=lists))
    found, wanted = (json.loads((folder / f"runs/{name}/metrics.json").read_text()) for name in "se")
    assert found == {split: pytest.approx(metrics, abs=1e-4) for split, metrics in wanted.items()}


def test_numbers_are_deferred_as_predict_refers_them(folder, endpoint):
    store = BagStore.open(folder / "store")
    arrays = npy(np.stack([store.read(place) for place in range(len(store))]))
    predictions = json.loads(endpoint.answer(arrays, NPY)[0])["predictions"]
    slides = predict_slides(folder / BEST, folder / "store", num_workers=1, device="cpu")
    assert [each["deferred"] for each in predictions] == [slide.refer for slide in slides]
    assert {each["deferred"] for each in predictions} == {True, False}
    body = np.load(io.BytesIO(endpoint.answer(arrays, NPY, NPZ)[0]))
    assert body["deferred"].tolist() == [each["deferred"] for each in predictions]


def test_arrays_say_the_coverage_the_note_and_the_tiles_that_json_says(folder, endpoint):
    body = npy(BagStore.open(folder / "store").read(0))
    content, arrays = json.loads(endpoint.answer(body, NPY)[0]), np.load(io.BytesIO(endpoint.answer(body, NPY, NPZ)[0]))
    assert arrays["coverage"] == content["coverage"] == 0.6
    assert str(arrays["note"]) == content["note"]
    (prediction,) = content["predictions"]
    assert arrays["tile_unfamiliarity"][0].tolist() == pytest.approx(prediction["tile_unfamiliarity"])
    assert len(prediction["tile_unfamiliarity"]) == len(prediction["attention"])
