"""Targets without classes as a user meets them: train, resume, evaluate, predict, table, report, app and endpoint."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from starlette.testclient import TestClient

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.inference.predict_slides import predict_slides
from milpath.metrics.intervals import metric_intervals
from milpath.models.checkpoint import load_card
from milpath.records.data_warning import UNFAMILIAR_COLUMNS
from milpath.reports.page import write_report
from milpath.sagemaker import inference
from milpath.sagemaker.jobs.model_archive import write_model_dir
from milpath.sagemaker.serve import create_app
from milpath.targets import Regression, Several, Survival, target_of
from milpath.targets.binary import Binary
from milpath.viewer.result_page import render_answer
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import Limits
from tests.commands import DDP, here, milpath
from tests.drawn_targets import CLASSES, RUN, TARGETS, write_store
from tests.sagemaker.loopback_endpoint import served_as
from tests.sagemaker.request_bodies import npy

NPY = "application/x-npy"


@pytest.fixture(scope="module", params=TARGETS)
def trained(request, tmp_path_factory) -> tuple[Path, str]:
    """A folder with the run `r` of a target and the store of its bags."""
    folder = tmp_path_factory.mktemp(request.param)
    write_store(folder / "bags")
    words = [*RUN, *TARGETS[request.param], "data.path=bags", "run_name=r"]
    assert here("milpath.train", *words, cwd=folder) == 0
    return folder, request.param


def test_the_run_has_metrics_predictions_and_a_report_of_every_split(trained):
    folder, name = trained
    metrics = json.loads((folder / "runs/r/metrics.json").read_text())
    target = target_of(load_card(folder / "runs/r/checkpoints/best.ckpt"))
    assert set(metrics) == {"train", "val", "test"}
    for split, values in metrics.items():
        unfamiliar = ("unfamiliar_share", "unfamiliar_share_low", "unfamiliar_share_high")
        assert set(values) - set(target.reported_metrics) <= set(unfamiliar), split
        assert tuple(name for name in values if name not in unfamiliar) == target.reported_metrics, split
    table = pd.read_csv(folder / "runs/r/predictions.csv")
    labels = [f"label_{column}" for column in target.label_columns]
    maps = [f"attention_{each}" for each in target.names] if name == "several" else []
    assert list(table.columns) == [
        "id", "split", *labels, *target.answer_columns, "attention", *maps, *target.call_columns,
        *UNFAMILIAR_COLUMNS,
    ]  # fmt: skip
    store = BagStore.open(folder / "bags").bags.set_index("bag_id").loc[table["id"]]
    known = {"cox": "months", "hazard": "months", "multilabel": "mutated"}.get(name, "age")
    np.testing.assert_array_equal(table[labels[0]], pd.to_numeric(store[known], errors="coerce"))
    page = (folder / "runs/r/report.html").read_text()
    assert "groups of bags, such as patients" in page
    assert ("limits of agreement" in page) == (name in ("regression", "two", "quantiles", "several"))
    assert ("hazard ratio" in page) == (name in ("cox", "hazard", "several"))
    assert "By data provider" in page
    assert ("Bags at risk by time" in page) == (name in ("cox", "hazard", "several"))
    assert ("Bags with a label of each target" in page) == isinstance(target, Several)
    if isinstance(target, Several):
        provenance = json.loads((folder / "runs/r/provenance.json").read_text())
        for split in metrics:
            own = table[table["split"] == split]
            counts = target.num_labelled(own[labels].to_numpy())
            assert provenance["data"]["bags_with_label"][split] == counts
            assert all(f"{count:,} of {len(own):,}" in page for count in counts.values())
        assert counts["mutated"] < len(own)


def test_what_is_fitted_comes_from_the_training_bags_only(trained):
    folder, name = trained
    target = target_of(load_card(folder / "runs/r/checkpoints/best.ckpt"))
    table = pd.read_csv(folder / "runs/r/predictions.csv")
    training = table[table["split"] == "train"]
    if isinstance(target, Several):
        for member in target.members:
            assert member.share == training[f"label_{member.label_columns[0]}"].notna().mean()
        target = target.members[0].target
    if isinstance(target, Binary):
        return
    if isinstance(target, Regression):
        assert target.mean[0] == pytest.approx(training["label_age"].mean())
        assert target.scale[0] == pytest.approx(training["label_age"].std(ddof=0))
    else:
        assert isinstance(target, Survival)
        assert target.risk_cut == pytest.approx(training["risk"].median(), abs=1e-6)
        if name == "cox":
            events = training[training["label_event"] == 1]["label_time"]
            assert target.times == pytest.approx(np.quantile(events, [0.25, 0.5, 0.75]), rel=5e-3)


def test_evaluate_predict_app_endpoints_and_score_give_the_numbers_of_the_run(trained, monkeypatch, capsys):
    folder, _ = trained
    checkpoint = folder / "runs/r/checkpoints/best.ckpt"
    target = target_of(load_card(checkpoint))
    columns = list(target.answer_columns)
    expected = pd.read_csv(folder / "runs/r/predictions.csv").set_index("id")
    words = [f"checkpoint={checkpoint}", "run_name=e", "splits=[train,val,test]", "trainer.accelerator=cpu"]
    assert here("milpath.evaluate", *words, "report=false", "overwrite=true", cwd=folder) == 0
    evaluated = pd.read_csv(folder / "runs/e/predictions.csv").set_index("id").loc[expected.index]
    pd.testing.assert_frame_equal(evaluated[columns], expected[columns], rtol=1e-5)
    before, after = (json.loads((folder / f"runs/{run}/metrics.json").read_text()) for run in ("r", "e"))
    assert before["test"] == pytest.approx(after["test"], rel=1e-4, abs=1e-5)
    words = [f"checkpoint={checkpoint}", "slides=bags", "output=out", "pictures=false", "device=cpu", "overwrite=true"]
    assert here("milpath.predict", *words, cwd=folder) == 0
    predicted = pd.read_csv(folder / "out/predictions.csv").set_index("id").loc[expected.index]
    calls = list(target.call_columns)
    assert list(predicted.columns) == [*columns, *calls, *UNFAMILIAR_COLUMNS]
    pd.testing.assert_frame_equal(predicted[columns], expected[columns], rtol=1e-4)
    pd.testing.assert_frame_equal(predicted[calls], expected[calls])
    pd.testing.assert_frame_equal(evaluated[calls], expected[calls])
    for slide in predict_slides(checkpoint, folder / "bags", device="cpu"):
        row = predicted.loc[slide.slide_id]
        assert list(slide.columns) == columns
        np.testing.assert_allclose(slide.probabilities, row[columns].astype(float), rtol=1e-4)
        assert [slide.cells[name] for name in calls] == predicted[calls].astype(str).loc[slide.slide_id].tolist()
        assert [*slide.cells][len(calls) :] == [*UNFAMILIAR_COLUMNS]
        assert slide.refer == bool(row[UNFAMILIAR_COLUMNS[0]] == 1)
    store = BagStore.open(folder / "bags")
    write_model_dir(checkpoint, folder / "model")
    toolkit, analyst = inference.model_fn(str(folder / "model")), Analyst(checkpoint, Limits())
    with TestClient(create_app(folder / "model")) as client:
        for position in range(4):
            name, tiles = store.bags["bag_id"].iloc[position], np.asarray(store.tiles[store.tile_slice(position)])
            wanted = {key: None if np.isnan(value) else value for key, value in expected.loc[name, columns].items()}
            answer = client.post("/invocations", content=npy(tiles), headers={"content-type": NPY}).json()
            body, _ = inference.output_fn(inference.predict_fn((npy(tiles), NPY), toolkit), "application/json")
            for content in (answer, json.loads(body)):
                assert content["predictions"][0]["answers"] == pytest.approx(wanted, rel=1e-4)
                called = dict(zip(calls, expected.loc[name, calls].astype(str), strict=True))
                assert content["predictions"][0].get("calls", {}) == called
                assert content["units"] == dict(zip(columns, target.units, strict=True))
                assert not {"label", "threshold", "probabilities"} & set(content["predictions"][0])
                assert content["predictions"][0]["deferred"] == (expected.loc[name].get("unfamiliar") == 1)
            headers = {"content-type": NPY, "accept": "application/x-npz"}
            arrays = np.load(io.BytesIO(client.post("/invocations", content=npy(tiles), headers=headers).content))
            np.testing.assert_allclose(arrays["answers"][0], expected.loc[name, columns].astype(float), rtol=1e-4)
            if calls:
                assert arrays["call_columns"].tolist() == calls
                assert arrays["calls"][0].tolist() == list(called.values())
            work = folder / "app" / name
            (work / "work").mkdir(parents=True)
            paths = [work / f"{name}_{number}.png" for number in range(len(tiles))]
            for path, tile in zip(paths, tiles, strict=True):
                Image.fromarray(tile).save(path)
            shown = analyst.answer(paths, work / "work")
            assert list(shown.numbers) == target.say(expected.loc[name, columns].to_numpy(dtype=float))
            page = render_answer(shown)
            assert shown.numbers[0][1] in page
            assert "Probability of each class" not in page
    words = ["endpoint=study", "data=bag_store", "data.path=bags", "data.num_folds=3", "data.group_column=patient_id"]
    words += ["splits=[train,val,test]", "region=eu-central-1", "run_name=s"]
    with served_as("study", folder / "model", monkeypatch):
        assert here("milpath.sagemaker.score", *words, cwd=folder) == 0
        words[-1:] = ["run_name=other", "data.task=binary", "data.label_column=died"]
        capsys.readouterr()
        assert here("milpath.sagemaker.score", *words, cwd=folder) == 1
    name = load_card(checkpoint).task
    assert f"ValueError: the endpoint predicts {name} " in (error := capsys.readouterr().err), error
    assert ", but the data have binary " in error
    scored = pd.read_csv(folder / "runs/s/predictions.csv")
    assert list(scored.columns) == list(pd.read_csv(folder / "runs/e/predictions.csv").columns)
    scored = scored.set_index("id").loc[expected.index]
    pd.testing.assert_frame_equal(scored[columns], expected[columns], rtol=1e-4)
    pd.testing.assert_frame_equal(scored[calls], expected[calls])
    found = json.loads((folder / "runs/s/metrics.json").read_text())
    for split, values in after.items():
        known = {metric: value for metric, value in values.items() if value is not None}
        assert {metric: found[split][metric] for metric in known} == pytest.approx(known, rel=1e-4, abs=1e-5)
        assert [metric for metric, value in found[split].items() if value is not None] == list(known)


def test_a_target_that_a_checkpoint_does_not_have_is_refused_in_one_line(trained, run_here):
    folder, name = trained
    write_store(folder / "others", num_bags=12)
    words = [
        "data=bag_store",
        "data.path=others",
        "data.task=binary",
        "data.label_column=died",
        "trainer.accelerator=cpu",
    ]
    status, error = run_here(
        "milpath.evaluate", "checkpoint=runs/r/checkpoints/best.ckpt", *words, "run_name=w", cwd=folder
    )
    assert status != 0
    task = {"two": "regression", "quantiles": "regression", "cox": "survival", "hazard": "survival"}.get(name, name)
    wanted = f"was trained for {task} .*, but the data have binary .alse, .rue; set data.target, data.task or data.class_names"
    assert re.search(wanted, error), error


@pytest.mark.parametrize("trained", ["regression", "hazard", "several"], indirect=True)
def test_a_resumed_run_equals_the_uninterrupted_one(trained):
    folder, name = trained
    words = [*RUN, *TARGETS[name], "data.path=bags", "run_name=in_two", "report=false"]
    assert here("milpath.train", *words, "trainer.max_epochs=1", cwd=folder) == 0
    assert here("milpath.train", *words, "resume_from=auto", cwd=folder) == 0
    one, two = (json.loads((folder / f"runs/{run}/metrics.json").read_text()) for run in ("r", "in_two"))
    assert one == two


def test_the_report_is_written_again_from_the_files_of_a_run(trained):
    folder, _ = trained
    target = target_of(load_card(folder / "runs/r/checkpoints/best.ckpt"))
    page = write_report(folder / "runs/r", task=target, num_resamples=20, title="again")
    assert "<h1>again</h1>" in page.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ordinal", "regression", "cox", "multilabel", "several"])
def test_a_table_compares_methods_by_a_metric_of_the_target(name, tmp_path):
    write_store(tmp_path / "bags")
    words = [*RUN[:3], *RUN[4:], *(TARGETS | CLASSES)[name], "data.path=bags", "trainer.max_epochs=1"]
    words = [word for word in words if not word.startswith(("data.num_folds", "model.attention_per_target", "seed="))]
    methods = ["attention", "embedding_mean"] if name in ("regression", "cox", "several") else ["attention"]
    words += ["data.val_fraction=0.3", f"methods=[{','.join(methods)}]", "folds=2", "repeats=1", "output=table"]
    if name == "multilabel":  # five validation bags have one class of a target
        words += ["monitor=val/macro_brier", "monitor_mode=min"]
        words.remove("monitor=val/macro_auroc")
    words += ["metric=accuracy"] * (name in CLASSES) + ["metric=integrated_brier"] * (name in ("cox", "hazard"))
    assert here("milpath.table", *words, cwd=tmp_path) == 0
    rows = json.loads((tmp_path / "table/table.json").read_text())["rows"]
    assert [row["method"] for row in rows] == methods
    assert all(np.isfinite(row["mean"]) for row in rows)


@pytest.mark.parametrize("name", ["ordinal", "several"])
def test_a_search_chooses_by_a_metric_of_the_target(name, tmp_path):
    write_store(tmp_path / "bags", num_bags=24)
    words = [
        "hparams_search=attention_grid",
        *RUN,
        *(TARGETS | CLASSES)[name],
        "data.path=bags",
        "trainer.max_epochs=1",
    ]
    words += ["model.gated=true", "optimizer.lr=0.01,0.001"]
    assert here("milpath.train", *words, "-m", cwd=tmp_path) == 0
    trials = pd.read_csv(tmp_path / "runs/attention_grid/trials.csv")
    monitor = next(word for word in words if word.startswith("monitor=")).partition("=")[2]
    assert np.isfinite(trials[monitor]).all()
    assert trials[monitor].tolist() == sorted(trials[monitor], reverse="monitor_mode=min" not in words)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        (
            "hazard",
            [],
            "'loss' is not a metric of a survival task, by which a table compares methods; give metric= one of c_index",
        ),
        ("regression", ["metric=auroc"], "'auroc' is not a metric of a regression task"),
    ],
)
def test_a_table_by_a_metric_that_the_target_lacks_is_refused_before_it_trains(
    name, words, message, tmp_path, run_here
):
    write_store(tmp_path / "bags")
    words = [
        *RUN,
        *TARGETS[name],
        "data.path=bags",
        "methods=[attention]",
        "folds=2",
        "repeats=1",
        "output=table",
        *words,
    ]
    words.remove("data.num_folds=3")
    status, output = run_here("milpath.table", *words, "data.val_fraction=0.3", cwd=tmp_path)
    assert status == 1
    assert message in output
    assert not (tmp_path / "table").exists()


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cox", "hazard"])
def test_the_concordance_of_a_trained_network_reaches_that_of_the_true_risk(loss, tmp_path):
    draw, risks = np.random.default_rng(0), {}
    with BagStoreWriter(tmp_path / "bags") as writer:
        for number in range(500):
            level = draw.normal()
            features = draw.normal(size=(6, 5)).astype(np.float32)
            features[:, 0] = level + 0.1 * features[:, 0]  # the tiles tell the true risk, among features that do not
            time, censored = draw.exponential(12 * np.exp(-level)), draw.uniform(5, 60)
            risks[f"slide_{number:03d}"] = level
            columns = {"time": min(time, censored), "event": int(time <= censored)}
            writer.add(f"slide_{number:03d}", features, columns)
    words = [
        "data=bag_store",
        "data.path=bags",
        "data.num_folds=3",
        "data.batch_size=64",
        "target=survival",
        "report=false",
    ]
    words += [f"target.loss={loss}", "monitor=val/c_index", "trainer.max_epochs=30", "optimizer.lr=0.003", "logger=csv"]
    words += ["trainer.accelerator=cpu", "callbacks.progress=null", "callbacks.early_stopping=null", "run_name=r"]
    assert here("milpath.train", *words, cwd=tmp_path) == 0
    table = pd.read_csv(tmp_path / "runs/r/predictions.csv").query("split == 'test'")
    target = Survival().fitted_on(table[["label_time", "label_event"]].to_numpy())
    truth = np.array([[risks[name]] for name in table["id"]])
    found, best = (
        metric_intervals(target.evaluate(table[["label_time", "label_event"]].to_numpy(), risk), ["c_index"])["c_index"]
        for risk in (table[["risk"]].to_numpy(), truth)
    )
    standard_error = (best.high - best.low) / (2 * 1.96)
    assert best.value > 0.7
    assert found.value > best.value - standard_error


@pytest.mark.slow
def test_training_on_two_processes_equals_one(tmp_path):
    write_store(tmp_path / "bags", num_bags=33)
    words = [*RUN, *TARGETS["several"], "data.path=bags", "model.encoder.dropout=0.0", "report=false"]
    assert here("milpath.train", *words, "run_name=one", cwd=tmp_path) == 0
    milpath("train", *words, *DDP, "trainer.devices=2", "data.batch_size=4", "run_name=two", cwd=tmp_path)
    one, two = (pd.read_csv(tmp_path / f"runs/{run}/predictions.csv").set_index("id") for run in ("one", "two"))
    for column in ("age/predicted_age", "mutated/probability_1", "os/risk"):
        np.testing.assert_allclose(two.loc[one.index, column], one[column], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["target=regression", "data.label_column=same"], "all .* training bags have same = 3: a constant cannot be learnt"),
        (["target=regression", "data.label_column=hole"], "column 'hole' must hold finite numbers"),
        (["target=regression", "target.columns=[age,weight]"], "weight"),
        (["target=survival"], "time"),
        (["target=survival", "target.time_column=months", "target.event_column=never"], "training bags are censored"),
        (["target=survival", "target.time_column=months", "target.event_column=once"],
         "class 'with an event' has 1 bag, fewer than data.num_folds=3; a single one cannot be both learnt and tested"),
        (["target=regression", "data.label_column=age", "data.sampler=balanced"], "sampler=balanced draws classes"),
        (["target=regression", "data.label_column=age", "class_weights=balanced"], "class_weights=balanced needs classes"),
        (["target=regression", "data.label_column=age", "monitor=val/auroc"], "give monitor= one of val/mae"),
        (["target=regression", "data.label_column=age", "decision.calibrate=true"], "decision.calibrate=True is for classes"),
        (["target=regression", "data.label_column=age", "data.class_names=[a,b]"], "has no classes"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(words, message, tmp_path, run_here):
    draw = np.random.default_rng(0)
    with BagStoreWriter(tmp_path / "bags") as writer:
        for number in range(12):
            columns = {"age": number, "same": 3, "hole": "" if number == 4 else number, "months": number + 1.0}
            columns |= {"never": 0, "once": int(number == 2)}
            writer.add(f"slide_{number}", draw.normal(size=(2, 4)).astype(np.float32), columns)
    monitor = [] if any(word.startswith("monitor") for word in words) else ["monitor=val/loss", "monitor_mode=min"]
    status, error = run_here(
        "milpath.train", "data=bag_store", "data.path=bags", "data.num_folds=3", "trainer.accelerator=cpu", "logger=csv",
        "callbacks.progress=null", "trainer.max_epochs=1", *monitor, *words, cwd=tmp_path,
    )  # fmt: skip
    assert status != 0
    pattern = [line for line in error.splitlines() if line.startswith("ValueError")] or [error]
    assert re.search(message, pattern[-1]), error
