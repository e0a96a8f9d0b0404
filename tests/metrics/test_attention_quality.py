import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from milpath.metrics.attention_quality import attention_entropy, attention_quality


def _bags(seed=0):
    generator = np.random.default_rng(seed)
    labels = [generator.integers(2, size=size) for size in (5, 12, 30, 8)]
    return [generator.dirichlet(0.2 + 2.0 * label) for label in labels], labels


def test_quality_per_bag_and_pooled_equals_scikit_learn():
    attention, labels = _bags()
    quality = attention_quality(attention, labels)
    assert quality.auroc == pytest.approx(
        np.mean([roc_auc_score(y, a) for y, a in zip(labels, attention, strict=True)])
    )
    assert quality.average_precision == pytest.approx(
        np.mean([average_precision_score(y, a) for y, a in zip(labels, attention, strict=True)])
    )
    truth, shares = np.concatenate(labels), np.concatenate([a * len(a) for a in attention])
    assert quality.pooled_auroc == pytest.approx(roc_auc_score(truth, shares))
    assert quality.pooled_average_precision == pytest.approx(average_precision_score(truth, shares))
    assert quality.prevalence == pytest.approx(truth.mean())


def test_bags_with_one_kind_of_tile_and_unknown_tiles_are_left_out():
    attention, labels = _bags()
    expected = attention_quality(attention, labels)
    more = [np.array([0.5, 0.5]), np.array([0.2, 0.8]), np.array([1.0])]
    quality = attention_quality([*attention, *more], [*labels, np.array([0, 0]), np.array([-1, 1]), None])
    assert (quality.num_bags, quality.num_left_out) == (4, 3)
    assert quality.auroc == expected.auroc
    assert quality.pooled_auroc == expected.pooled_auroc
    assert np.isnan(quality.per_bag_auroc[4:]).all()


def test_padding_a_bag_with_unknown_tiles_does_not_change_its_ranking():
    known = attention_quality([np.array([0.5, 0.3, 0.2])], [np.array([1, 0, 1])])
    partly = attention_quality([np.array([0.4, 0.25, 0.15, 0.2])], [np.array([1, 0, 1, -1])])
    assert known.auroc == partly.auroc == 0.5


def test_nothing_known_gives_nothing():
    quality = attention_quality([np.array([0.5, 0.5])], [None])
    assert (quality.auroc, quality.pooled_auroc, quality.num_bags, quality.num_left_out) == (None, None, 0, 1)


def test_as_many_weights_as_tiles_are_asked_for():
    with pytest.raises(ValueError, match="bag 0 has 2 attention weights but 3 tile labels"):
        attention_quality([np.array([0.5, 0.5])], [np.array([0, 1, 1])])


def test_entropy_is_zero_on_one_tile_and_one_on_equal_weights():
    assert attention_entropy(np.array([1.0])) == 0.0
    assert attention_entropy(np.array([1.0, 0.0, 0.0])) == 0.0
    assert attention_entropy(np.full(7, 1 / 7)) == pytest.approx(1.0)
    assert attention_entropy(np.array([0.5, 0.5, 0.0, 0.0])) == pytest.approx(0.5)
