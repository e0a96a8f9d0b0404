import numpy as np
import pandas as pd
import pytest

from milpath.metrics.operating_point import attained, threshold_for_sensitivity
from milpath.reports.page import write_report
from milpath.reports.second_reader import second_reader
from milpath.targets import target_named


def test_validation_chooses_and_the_other_split_is_measured(draw_outcomes):
    validation, test = draw_outcomes(200, 2, "binary", 1), draw_outcomes(300, 2, "binary", 2)
    reader = second_reader(test, validation, target_named("binary"), threshold=0.5, wished=(0.9,))
    chosen = threshold_for_sensitivity(validation.labels, validation.probabilities[:, 1], 0.9)
    assert reader.wishes[0].attained == attained(test.labels, test.probabilities[:, 1], chosen)
    assert reader.used.threshold == 0.5
    assert reader.calibrated.predicted is test.predicted
    assert reader.deferral[0].num_errors == (~test.correct).sum()


def test_without_validation_nothing_is_chosen(draw_outcomes):
    reader = second_reader(draw_outcomes(100, 2, "binary"), None, target_named("binary"), threshold=0.4)
    assert (reader.wishes, reader.temperature, reader.calibrated) == ((), None, None)
    assert reader.used.threshold == 0.4


@pytest.mark.parametrize("task", ["nominal", "ordinal"])
def test_more_classes_have_a_temperature_and_no_threshold(draw_outcomes, task):
    reader = second_reader(
        draw_outcomes(200, 4, task), draw_outcomes(200, 4, task, 1), target_named(task), threshold=0.5
    )
    assert (reader.used, reader.wishes) == (None, ())
    assert 0.1 <= reader.temperature <= 10


def test_a_target_that_the_other_split_misses_and_a_temperature_at_its_bound_are_said(draw_outcomes):
    target, sure = target_named("binary"), np.arange(40) % 2
    validation = target.evaluate(sure, np.stack([0.8 - 0.6 * sure, 0.2 + 0.6 * sure], axis=1))
    scores = np.where(np.arange(40) < 8, 0.1, 0.2 + 0.6 * sure)
    test = target.evaluate(sure, np.stack([1 - scores, scores], axis=1))
    reader = second_reader(test, validation, target, threshold=0.5, wished=(0.9,))
    assert reader.wishes[0].attained.sensitivity.value == 0.8
    assert reader.wishes[0].missed
    # Validation is separated without an error, so that any sharper probabilities fit better.
    assert reader.temperature == pytest.approx(0.1, rel=1e-3)
    assert "the temperature 0.1 is the lowest that is fitted" in reader.bound
    usual = second_reader(draw_outcomes(300, 2, "binary", 2), draw_outcomes(200, 2, "binary", 1), target, threshold=0.5)
    assert usual.bound == ""


def test_the_page_says_both(make_run):
    run = make_run(name="missed")
    table = pd.read_csv(run.path / "predictions.csv")
    # Validation without an error; on test a sixth of the positive bags are far below any threshold.
    validation, found = table["split"] == "val", table["label"] == 1
    table.loc[validation, "probability_malignant"] = np.where(found[validation], 0.8, 0.2)
    missed = table.index[(table["split"] == "test") & found][::3]
    table.loc[missed, "probability_malignant"] = 0.01
    table["probability_benign"] = 1 - table["probability_malignant"]
    table["predicted"] = (table["probability_malignant"] >= 0.5).astype(int)
    table.to_csv(run.path / "predictions.csv", index=False)
    page = write_report(run.path, task="binary", num_resamples=20).read_text(encoding="utf-8")
    assert "95%, not reached" in page
    assert "The temperature 0.1 is the lowest that is fitted" in page
