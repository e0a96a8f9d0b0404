"""The folds of several targets, and of survival from slides to patients, as one answer: predict, evaluate and report."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from milpath.inference.ensemble import open_predictor
from milpath.metrics.conformal import CrossConformal
from milpath.metrics.survival.survival_curves import kaplan_meier
from milpath.models.checkpoint import load_card, update_card
from milpath.records.prediction_table import read_predictions
from milpath.targets import target_of
from milpath.targets.set_parts import fitted_parts
from milpath.targets.target_file import read_target
from tests.commands import here

pytestmark = [pytest.mark.slow, pytest.mark.command]
DATA = ["data=synthetic_cohort", "data.num_tiles=2", "data.tile_size=16"]
RUN = [
    *DATA, "data.num_patients=24", "data.val_fraction=0.4", "data.batch_size=8", "model/encoder=tile_cnn",
    "model.encoder.embedding_dim=4", "trainer.accelerator=cpu", "trainer.max_epochs=1", "logger=csv",
    "callbacks.progress=null", "callbacks.early_stopping=null", "report=false",
]  # fmt: skip
SEVERAL = [
    "target=several",
    "target.targets={diagnosis:binary,marker:{task:regression,quantiles:[0.1,0.9]},os:survival}",
    "decision.coverage=0.6",
    "decision.calibrate=true",
]
COHORT = [*DATA, "data.num_patients=14", "data.drawing_seed=3", "seed=0", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    words = [*RUN, *SEVERAL, "data.num_folds=2", "monitor=val/loss", "monitor_mode=min"]
    for fold in range(2):
        assert here("milpath.train", *words, f"data.fold={fold}", f"run_name={fold}", cwd=folder) == 0
    return folder


@pytest.fixture(scope="module")
def survival(tmp_path_factory) -> Path:
    """Slides as bags, put together to patients."""
    folder = tmp_path_factory.mktemp("survival")
    words = ["target=survival", "data.bag_column=null", "data.aggregate=mean", "data.group_column=patient_id"]
    words += ["monitor=val/c_index", "methods=[attention]", "folds=2", "repeats=1", "output=table"]
    assert here("milpath.table", *RUN, *words, cwd=folder) == 0
    return folder


def folds_of(folder: Path) -> list[str]:
    return [str(folder / f"runs/{fold}/checkpoints/best.ckpt") for fold in range(2)]


def test_several_targets_predict_evaluate_and_report_each(several, capsys):
    words = [f"checkpoint=[{','.join(folds_of(several))}]", *COHORT, "run_name=cohort"]
    assert here("milpath.evaluate", *words, cwd=several) == 0
    said = capsys.readouterr().out
    assert "no prediction sets for os: a censored time has no error to fit them on" in said
    run = several / "runs/cohort"
    table = pd.read_csv(run / "predictions.csv").set_index("id")
    predictor = open_predictor(folds_of(several))
    target, parts = target_of(predictor.card), fitted_parts(predictor.card)
    assert [part.name for part in parts] == ["diagnosis", "marker"]
    assert all(isinstance(part.sets, CrossConformal) for part in parts)
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    inside = table["marker/low_marker"].le(table["label_marker"]) & table["label_marker"].le(
        table["marker/high_marker"]
    )
    known = table["label_marker"].notna()
    assert metrics["marker/interval_coverage_of_marker"] == pytest.approx(inside[known].mean())
    truth = np.array(target.members[0].class_names)[table["label_diagnosis"].dropna().astype(int)]
    sets = table.loc[table["label_diagnosis"].notna(), "diagnosis/set"].str.split(";")
    assert metrics["diagnosis/set_coverage"] == pytest.approx(
        np.mean([label in own for label, own in zip(truth, sets, strict=True)])
    )
    # How far the folds differ, in the columns of each target.
    time = next(name for name in table if name.startswith("os/fold_spread_survival_at_"))
    spreads = table[["diagnosis/fold_spread", "marker/fold_spread_marker", "os/fold_spread_risk", time]]
    assert (spreads > 0).all(axis=None)
    assert table["attention_agreement"].dropna().between(-1, 1).all()
    page = (run / "report.html").read_text()
    for words in ("Table of coverage of diagnosis", "Agreement of the folds on attention", "Shift against validation"):
        assert words in page
    assert {f"observed_mean_{name}" for name in ("marker/marker", time.replace("fold_spread_", ""))} <= set(metrics)
    assert read_predictions(run / "predictions.csv").answer_columns == list(target.answer_columns)


def test_the_classes_of_patients_follow_from_their_own_predictions(several, capsys):
    """They were those of as many slides; and sets fitted on patients as bags are not shown for patients from slides."""
    words = [f"checkpoint=[{','.join(folds_of(several))}]", *COHORT, "data.bag_column=null", "aggregate=mean"]
    words += ["data.group_column=patient_id", "run_name=slides", "report=false"]
    assert here("milpath.evaluate", *words, cwd=several) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the prediction sets of this checkpoint were fitted on single bags: there are none for patients" in said
    assert "no shift against validation, which is known with aggregate=null" in said
    table = pd.read_csv(several / "runs/slides/predictions.csv").set_index("id")
    member = target_of(open_predictor(folds_of(several)).card).members[0]
    calls = member.calls(table[list(member.answer_columns)].to_numpy())
    assert table["diagnosis/predicted"].tolist() == [member.class_names[number] for number in calls.predicted]
    assert len(table) == 14
    assert table["diagnosis/predicted"].nunique() > 1 or len(set(table["diagnosis/probability_malignant"])) == 14
    assert "diagnosis/set" not in table
    assert (table["marker/fold_spread_marker"] > 0).all()


def test_the_decision_of_each_target_is_fitted_on_all_validation_bags(several):
    predictor = open_predictor(folds_of(several))
    target = target_of(predictor.card)
    folds = [target_of(load_card(path)) for path in folds_of(several)]
    assert target.members[0].decision.temperature not in [fold.members[0].decision.temperature for fold in folds]
    assert len(predictor.validation.bag_ids) == len(set(predictor.validation.bag_ids))
    second = Path(folds_of(several)[1])
    state = load_card(second).target_state
    changed = json.loads(json.dumps(state))
    changed["targets"][1]["weight"] = 2.0
    update_card(second, target_state=changed)
    with pytest.raises(ValueError, match=r"has target.marker.weight 2.0, but .* has 1.0"):
        open_predictor(folds_of(several))
    update_card(second, target_state=state)


def test_survival_of_patients_is_that_of_their_slides_by_each_fold(survival, capsys):
    words = ["checkpoint=table", *COHORT, "data.bag_column=null", "data.group_column=patient_id"]
    assert here("milpath.evaluate", *words, "aggregate=mean", "run_name=cohort", cwd=survival) == 0
    run = survival / "runs/cohort"
    slides = pd.read_csv(run / "slide_predictions.csv").set_index("id")
    patients = pd.read_csv(run / "predictions.csv").set_index("id")
    target = target_of(open_predictor(survival / "table").card)
    time = target.answer_columns[1]
    for name, row in patients.iterrows():
        own = slides[slides.index.str[1:5] == name[-4:]]
        assert row["risk"] == pytest.approx(own["risk"].mean(), abs=1e-5)
        assert row[time] == pytest.approx(own[time].mean(), abs=1e-5)
    assert (patients[f"fold_spread_{time}"] > 0).all()
    assert -1 <= patients["risk"].min() <= patients["risk"].max() <= 0
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    assert metrics[f"predicted_mean_{time}"] == pytest.approx(patients[time].mean(), abs=1e-5)
    observed = kaplan_meier(patients["label_time"].to_numpy(), patients["label_event"].to_numpy() == 1)
    assert metrics[f"observed_mean_{time}"] == pytest.approx(float(observed.at(float(time.rpartition("_")[2]))[0]))
    # Another cohort has another follow-up: its own weights against censoring.
    labels = patients[["label_time", "label_event"]].to_numpy(float)
    own = target.in_cohort(labels)
    assert own.state() != target.state()
    weighted = own.metrics(own.evaluate(labels, patients[list(target.answer_columns)].to_numpy(float)))
    for name in ("uno_c_index", "integrated_brier", "time_auc"):
        assert metrics[name] == pytest.approx(weighted[name], abs=1e-5)
    page = (run / "report.html").read_text()
    assert "Survival by predicted risk" in page
    assert "Shift against validation" in page
    capsys.readouterr()

    store = next(path.parent for path in survival.rglob("bags.csv") if len(pd.read_csv(path)) == len(slides))
    words = [f"slides={store}", "output=out", "device=cpu", "pictures=false", "aggregate=mean"]
    assert here("milpath.predict", "checkpoint=table", *words, "patient_column=patient_id", cwd=survival) == 0
    predicted = pd.read_csv(survival / "out/predictions.csv").set_index("id")
    np.testing.assert_allclose(predicted["risk"], slides.loc[predicted.index, "risk"], atol=1e-5)
    assert {"fold_spread_risk", f"fold_spread_{time}", "attention_agreement"} <= set(predicted)
    together = pd.read_csv(survival / "out/patients.csv").set_index("id")
    columns = ["risk", time, "fold_spread_risk", f"fold_spread_{time}"]
    np.testing.assert_allclose(together.loc[patients.index, columns], patients[columns], atol=1e-5)


def test_the_average_of_survival_is_the_mean_curve_of_the_networks(survival):
    predictor = open_predictor(survival / "table")
    average, network = target_of(predictor.card), predictor.network
    tiles = torch.rand(3, 2, 3, 16, 16)
    with torch.inference_mode():
        found = average.answers(network(tiles).logits.double()).numpy()
        times = torch.tensor(average.times)
        curves = [
            (-target.cumulative_hazard(member(tiles).logits.double(), times)).exp().numpy()
            for target, member in zip(network.targets, network.members, strict=True)
        ]
    np.testing.assert_allclose(found[:, 1 : 1 + len(times)], np.mean(curves, axis=0), atol=1e-5)


def test_one_fold_weighs_another_cohort_by_its_own_censoring_and_its_own_data_by_that_of_training(survival, capsys):
    best = min(survival.rglob("best.ckpt"))
    trained = target_of(load_card(best))
    words = [f"checkpoint={best}", "trainer.accelerator=cpu", "report=false", "aggregate=mean"]
    other = [*COHORT, "data.bag_column=null", "data.group_column=patient_id", "run_name=other"]
    said = "weights against censoring are those of the tested bags"
    for more, is_said in ((other, True), (["run_name=own"], False)):
        assert here("milpath.evaluate", *words, *more, cwd=survival) == 0
        assert (said in " ".join(capsys.readouterr().out.split())) == is_said
    patients = pd.read_csv(survival / "runs/other/predictions.csv")
    wanted = trained.in_cohort(patients[["label_time", "label_event"]].to_numpy(float)).state()
    assert read_target(survival / "runs/other").state() == wanted
    assert read_target(survival / "runs/own").state() == trained.state()
