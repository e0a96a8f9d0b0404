import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from milpath.metrics.ranking import auroc, average_precision

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40)


@given(PAIRS)
def test_auroc_and_average_precision_equal_scikit_learn_with_ties(pairs):
    positive, scores = np.array([p for p, _ in pairs]), np.array([s for _, s in pairs], dtype=float)
    if positive.all() or not positive.any():
        assert np.isnan(auroc(positive, scores))
        return
    assert float(auroc(positive, scores)) == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-12)
    assert float(average_precision(positive, scores)) == pytest.approx(sk.average_precision_score(positive, scores))


def test_weights_count_a_bag_as_often_as_repeating_it_does():
    generator = np.random.default_rng(1)
    positive, scores = generator.random(50) < 0.4, generator.integers(0, 9, 50).astype(float)
    weights = generator.integers(0, 4, (6, 50)).astype(float)
    for score in (auroc, average_precision):
        repeated = [score(np.repeat(positive, row.astype(int)), np.repeat(scores, row.astype(int))) for row in weights]
        assert score(positive, scores, weights) == pytest.approx(np.array(repeated))


def test_a_resample_without_positives_is_not_a_number():
    positive, scores = np.array([True, False, False]), np.array([0.3, 0.2, 0.1])
    result = auroc(positive, scores, np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]]))
    assert np.isnan(result[0])
    assert result[1] == 1.0
