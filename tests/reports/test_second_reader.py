import pytest

from milpath.metrics.operating_point import attained, threshold_for_sensitivity
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
