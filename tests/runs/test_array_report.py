"""The report of plain arrays: what a test set of another program gets."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import milpath
from milpath.records.prediction_table import read_predictions


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    return labels, 1 / (1 + np.exp(-(2.0 * labels - 1 + rng.normal(size=60))))


def test_two_arrays_are_enough_and_the_page_has_the_metrics_of_scikit_learn(arrays, tmp_path):
    labels, scores = arrays
    path = milpath.write_report(labels, scores, tmp_path / "report", num_resamples=20, threshold=0.4)
    page = path.read_text(encoding="utf-8")
    assert path == tmp_path / "report/report.html"
    assert f"{roc_auc_score(labels, scores):.3f}" in page
    assert f"{balanced_accuracy_score(labels, scores >= 0.4):.3f}" in page
    assert 'id="attention"' not in page  # there is none
    assert not re.search(r"\bnan\b|has no provenance", page.split("<main")[1].split("</main>")[0], re.IGNORECASE)
    # The same call again replaces the report.
    assert milpath.write_report(labels, scores, tmp_path / "report", num_resamples=20, threshold=0.4) == path


def test_words_attention_groups_and_columns_reach_the_page(arrays, tmp_path):
    labels, scores = arrays
    words = np.array(["benign", "malignant"])[labels]
    attention = [np.full(1 + row % 3, 1 / (1 + row % 3)) for row in range(60)]
    path = milpath.write_report(
        words, np.stack([1 - scores, scores], 1), tmp_path, bag_ids=[f"slide {row}" for row in range(60)], attention=attention,
        groups=np.arange(60) // 3, bags=pd.DataFrame({"provider": np.array(["here", "there"])[labels]}), title="Ours",
        warning="drawn", num_resamples=20,
    )  # fmt: skip
    page = path.read_text(encoding="utf-8")
    for found in ("slide 59", "malignant", "provider", "there", 'id="attention"', "<title>Ours", "drawn"):
        assert found in page, found
    written = read_predictions(tmp_path / "predictions.csv")
    assert written.class_names == ["benign", "malignant"]
    np.testing.assert_array_equal(written.labels, labels)
    np.testing.assert_allclose(written.probabilities[:, 1], scores, atol=1e-8)


def test_three_classes_are_nominal_unless_they_are_called_ordered(tmp_path):
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 3, 40), rng.dirichlet(np.ones(3), 40)
    nominal = milpath.write_report(labels, scores, tmp_path / "n", num_resamples=5).read_text(encoding="utf-8")
    ordinal = milpath.write_report(labels, scores, tmp_path / "o", num_resamples=5, task="ordinal").read_text(
        encoding="utf-8"
    )
    assert "kappa" not in nominal.lower().split("<main")[1].split("<footer")[0]
    assert "kappa" in ordinal.lower()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [-1.0, 2.0]}, r"probabilities in \[0, 1\], not -1 to 2; convert logits by a sigmoid"),
        ({"scores": [0.1, float("nan")]}, "probabilities in"),
        ({"scores": [[0.1, 0.2], [0.5, 0.5]]}, r"those of bag 0 \(from 0\) sum to 0.3"),
        ({"scores": [0.1, 0.2, 0.3]}, "scores has 3 bags, but labels has 2"),
        ({"labels": [0, 2]}, "labels must be from 0 to 1, not 0 to 2"),
        ({"labels": [0.0, 1.0]}, "labels are fractions"),
        ({"labels": ["a", "b"], "class_names": ["a", "c"]}, "label 'b' is not one of class_names a, c"),
        ({"labels": ["a", "a"]}, r"scores has 2 classes, but there are 1 names \(a\)"),
        ({"bag_ids": ["a", "a"]}, "bag_ids has 'a' 2 times"),
        ({"groups": ["p"]}, "2 bags have 1 groups"),
        ({"attention": [[1.0], [0.5, 0.4]]}, "the attention of bag '2' sums to 0.9"),
        ({"attention": [[1.0], []]}, "the attention of bag '2' must be"),
        ({"task": "survival"}, "has no classes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_before_anything_is_written(change, message, tmp_path):
    given = {"labels": [0, 1], "scores": [0.2, 0.7], "path": tmp_path / "report"} | change
    with pytest.raises(ValueError, match=message) as caught:
        milpath.write_report(**given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report").exists()


def test_the_folder_of_a_run_is_left_alone(binary_run):
    with pytest.raises(ValueError, match=r"is the folder of a run \(it has .*give another folder"):
        milpath.write_report([0, 1], [0.2, 0.7], binary_run.path)
