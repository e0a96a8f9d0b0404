import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from milpath.metrics.shortcuts.linear_probe import linear_probe

FEW = {"num_permutations": 39, "num_resamples": 50}


def drawn(strength, seed=0, num_patients=60, dim=20):
    """Patients of three slides, each of one scanner, whose embeddings are those of the patient and of the scanner."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_patients), 3)
    scanner = rng.integers(0, 2, num_patients)[groups]
    embeddings = 2 * rng.normal(size=(num_patients, dim))[groups] + rng.normal(size=(len(groups), dim))
    embeddings[:, 0] += strength * scanner
    folds = (np.arange(num_patients) % 5)[groups]
    return embeddings, np.where(scanner == 1, "aperio", "hamamatsu"), folds, groups.astype(str)


def test_a_scanner_that_colours_the_embedding_is_told():
    embeddings, scanner, folds, groups = drawn(8.0)
    probe = linear_probe("scanner", embeddings, scanner, folds, groups, **FEW)
    assert probe.values == ("aperio", "hamamatsu")
    assert probe.effect.value > 0.9
    assert probe.balanced_accuracy.value > 0.8
    assert probe.p_value == 1 / 40
    assert 0.4 < probe.chance < 0.6 < probe.chance_high < probe.effect.value


def test_nothing_is_told_where_there_is_nothing_and_patients_do_not_help():
    """Embeddings of a patient are alike: a probe whose folds or permutations ignored patients would find the scanner."""
    found = [linear_probe("scanner", *drawn(0.0, seed, 40, 60), **FEW).p_value for seed in range(40)]
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)
    assert np.median(found) > 0.2


def test_numbers_are_told_by_their_rank():
    embeddings, _, folds, groups = drawn(0.0)
    rng = np.random.default_rng(1)
    colour = embeddings[:, 3] + 0.5 * rng.normal(size=len(folds))
    probe = linear_probe("colour", embeddings, colour, folds, groups, **FEW)
    assert probe.measure == "rank correlation"
    assert probe.balanced_accuracy is None
    assert 0.7 < probe.effect.low < probe.effect.value <= 1
    assert abs(probe.chance) < 0.2


@pytest.mark.parametrize("dim", [4, 300], ids=["fewer numbers than bags", "more numbers than bags"])
def test_predictions_are_those_of_ridge_regression(dim):
    embeddings, scanner, folds, groups = drawn(3.0, dim=dim)
    scores = np.empty(len(folds))
    for fold in range(5):
        scale = StandardScaler().fit(embeddings[folds != fold])
        known, unknown = (scale.transform(embeddings[own]) / np.sqrt(dim) for own in (folds != fold, folds == fold))
        target = (scanner[folds != fold] == "hamamatsu").astype(float)
        ridge = Ridge(alpha=1.0, fit_intercept=False).fit(known, target - target.mean())
        scores[folds == fold] = ridge.predict(unknown) / target.var()
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    probe = linear_probe("scanner", embeddings, scanner, folds, groups, **FEW)
    assert probe.effect.value == pytest.approx(roc_auc_score(scanner == "hamamatsu", scores))
    assert probe.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(scanner == "hamamatsu", scores > 0))


def test_three_sites_have_a_chance_of_a_third():
    rng = np.random.default_rng(2)
    site = rng.choice(["a", "b", "c"], 150, p=[0.7, 0.2, 0.1])
    probe = linear_probe("site", rng.normal(size=(150, 8)), site, np.arange(150) % 5, **FEW)
    assert probe.p_value > 0.05
    assert 0.15 < probe.balanced_accuracy.value < 0.5


def test_what_cannot_be_probed_is_refused():
    with pytest.raises(ValueError, match="needs two values and two folds, got 1 and 2"):
        linear_probe("site", np.zeros((4, 2)), np.array(["a"] * 4), np.arange(4) % 2)
    with pytest.raises(ValueError, match="embeddings are not finite"):
        linear_probe("site", np.full((4, 2), np.nan), np.array(["a", "b"] * 2), np.arange(4) % 2)
    with pytest.raises(ValueError, match="all embeddings are the same"):
        linear_probe("site", np.ones((4, 2)), np.array(["a", "b"] * 2), np.arange(4) % 2)
