"""Targets on real slides: published out-of-fold grades of PANDA as numbers and as ordered classes, and GlaS by patient."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from milpath.data import ImageTiles
from milpath.data.splits.bag_table import SplitOptions, label_and_split
from milpath.metrics.intervals import metric_intervals
from milpath.metrics.number_metrics import limits_of_agreement
from milpath.targets import Regression, target_named


@pytest.fixture(scope="module")
def out_of_fold(shared_data) -> pd.DataFrame:
    """The published out-of-fold score (0 to 5) and grade of each slide, with the group of its near copies."""
    folder = shared_data / "panda_meta"
    table = pd.read_csv(folder / "oof_predictions_1st_place.csv")
    copies = pd.read_csv(folder / "duplicates_imghash090_1st_place.csv")
    groups = copies.set_index(copies.columns[0])[copies.columns[1]].astype(str)
    return table.assign(group=table["image_id"].map(groups).fillna(table["image_id"]))


def test_the_grade_as_a_number_has_the_errors_of_scikit_learn_and_scipy(out_of_fold):
    truth, score = out_of_fold["isup_grade"].to_numpy(float), out_of_fold["probs_raw"].to_numpy(float)
    target = Regression(["isup_grade"])
    outcomes = target.evaluate(truth[:, None], score[:, None], groups=out_of_fold["group"].to_numpy(str))
    metrics = target.metrics(outcomes)
    assert metrics["mae"] == pytest.approx(mean_absolute_error(truth, score), abs=1e-12)
    assert metrics["rmse"] == pytest.approx(root_mean_squared_error(truth, score), abs=1e-12)
    assert metrics["r2"] == pytest.approx(r2_score(truth, score), abs=1e-12)
    assert metrics["pearson"] == pytest.approx(pearsonr(truth, score)[0], abs=1e-12)
    assert metrics["spearman"] == pytest.approx(spearmanr(truth, score)[0], abs=1e-12)
    intervals = metric_intervals(outcomes, ("mae", "r2"), num_resamples=100)
    assert all(each.low < each.value < each.high for each in intervals.values())
    bias, low, high = limits_of_agreement(truth, score)
    assert low < bias < high
    assert np.mean((score - truth >= low) & (score - truth <= high)) == pytest.approx(0.95, abs=0.02)


def test_the_grade_as_ordered_classes_has_the_published_kappa(out_of_fold):
    truth, grade = out_of_fold["isup_grade"].to_numpy(np.int64), out_of_fold["preds"].to_numpy(np.int64)
    target = target_named("ordinal")
    outcomes = target.evaluate(truth, np.eye(6)[grade], groups=out_of_fold["group"].to_numpy(str))
    metrics = target.metrics(outcomes)
    assert metrics["quadratic_kappa"] == pytest.approx(cohen_kappa_score(truth, grade, weights="quadratic"), abs=1e-12)
    assert metrics["quadratic_kappa"] == pytest.approx(0.8760, abs=5e-5)
    interval = metric_intervals(outcomes, ("quadratic_kappa",), num_resamples=100)["quadratic_kappa"]
    assert interval.low < 0.8760 < interval.high


def test_slides_of_a_patient_of_glas_stay_together_and_widen_the_interval(shared_data):
    folder = shared_data / "glas"
    table = ImageTiles(folder, id_column="image").label_table().reset_index(drop=True)
    scores, labels = np.zeros(len(table)), np.zeros(len(table), np.int64)
    colours = np.stack([_colours(folder / "images" / f"{name}.jpg") for name in table["bag_id"]])
    tested = np.zeros(len(table), bool)
    for fold in range(4):
        options = SplitOptions(fold=fold, num_folds=4, group_column="patient")
        split, names = label_and_split(table, "label", None, options)
        assert len(names) == 2
        assert split.groupby("patient")["split"].nunique().max() == 1
        rows = split["index"].to_numpy()
        test = (split["split"] == "test").to_numpy()
        assert set(split["patient"][test]).isdisjoint(split["patient"][~test])
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(colours[rows[~test]], split["label"][~test].astype(int))
        scores[rows[test]] = model.predict_proba(colours[rows[test]])[:, 1]
        labels[rows] = split["label"].to_numpy(np.int64)
        tested[rows[test]] = True
    assert tested.all()
    assert table["patient"].nunique() == 16
    target = target_named("binary")
    widths = {}
    for name, groups in (("image", None), ("patient", table["patient"].to_numpy(str))):
        outcomes = target.evaluate(labels, np.stack([1 - scores, scores], axis=1), groups=groups)
        interval = metric_intervals(outcomes, ("auroc",), num_resamples=300)["auroc"]
        widths[name] = interval.high - interval.low
    # 165 images of 16 patients are not 165 independent observations.
    assert widths["patient"] > 1.3 * widths["image"]


def _colours(path) -> np.ndarray:
    """Mean and spread of the colours of an image, from an eighth of its size."""
    with Image.open(path) as image:
        image.draft("RGB", (image.width // 8, image.height // 8))
        pixels = np.asarray(image.convert("RGB"), dtype=np.float64).reshape(-1, 3)
    return np.concatenate([pixels.mean(0), pixels.std(0)])
