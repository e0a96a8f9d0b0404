import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from milpath.metrics.shortcuts.association import AUROC, SHARE, associations

FEW = {"num_permutations": 99, "num_resamples": 50}


def by_name(found):
    return {each.name: each for each in found}


def test_the_effect_of_a_covariate_is_the_auroc_of_the_share_of_the_class():
    rng = np.random.default_rng(0)
    site = rng.choice(["a", "b", "c"], 300)
    labels = (rng.random(300) < np.where(site == "a", 0.8, np.where(site == "b", 0.4, 0.3))).astype(np.int64)
    (found,) = associations(labels, {"site": site}, **FEW)
    share = np.array([labels[site == own].mean() for own in site])
    assert found.measure == AUROC
    assert found.effect.value == pytest.approx(roc_auc_score(labels, share))
    assert found.effect.low < found.effect.value < found.effect.high
    assert found.p_value == 0.01
    assert found.is_finding
    assert 0.5 < found.chance < 0.6


def test_of_several_classes_it_is_the_mean_of_one_against_the_rest():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 240)
    site = np.where(rng.random(240) < 0.7, labels, rng.integers(0, 3, 240)).astype(str)
    (found,) = associations(labels, {"site": site}, **FEW)
    each = [roc_auc_score(labels == name, [(labels[site == own] == name).mean() for own in site]) for name in range(3)]
    assert found.effect.value == pytest.approx(np.mean(each))


def test_numbers_are_found_whether_they_rise_or_have_a_middle():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 600)
    covariates = {
        "rising": labels * 1.5 + rng.normal(size=600),
        "middle": np.where(labels == 1, rng.normal(0, 0.3, 600), rng.normal(0, 2, 600)),
        "nothing": rng.normal(size=600),
        "constant": np.ones(600),
    }
    found = by_name(associations(labels, covariates, **FEW))
    assert set(found) == {"rising", "middle", "nothing"}
    assert found["rising"].is_finding
    assert found["middle"].is_finding
    assert not found["nothing"].is_finding


def test_what_is_unknown_is_a_value_of_its_own():
    """The hospital with the malignant slides left the resolution out."""
    labels = np.repeat([0, 1], 50)
    microns = np.where(labels == 1, np.nan, 0.25)
    (found,) = associations(labels, {"microns": microns}, **FEW)
    assert found.effect.value == 1.0
    assert found.is_finding


def test_a_trivial_effect_of_ten_thousand_slides_is_no_finding():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 10_000)
    site = np.where(rng.random(10_000) < 0.08, labels, rng.integers(0, 2, 10_000)).astype(str)
    (found,) = associations(labels, {"site": site}, **FEW)
    assert found.adjusted == 0.01
    assert found.effect.value < 0.6
    assert not found.is_finding


def test_numbers_as_labels_have_a_share_of_variance():
    rng = np.random.default_rng(4)
    site = rng.integers(0, 3, 200)
    labels = site + rng.normal(size=200)
    found = by_name(associations(labels, {"site": site.astype(str), "none": rng.choice(["x", "y"], 200)}, **FEW))
    assert found["site"].measure == SHARE
    ranks = np.argsort(np.argsort(labels))
    between = sum((site == own).sum() * (ranks[site == own].mean() - ranks.mean()) ** 2 for own in range(3))
    assert found["site"].effect.value == pytest.approx(between / ((ranks - ranks.mean()) ** 2).sum())
    assert found["site"].effect.low < found["site"].effect.value < found["site"].effect.high
    assert found["site"].is_finding
    assert not found["none"].is_finding


def test_p_values_are_adjusted_for_the_number_of_covariates():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 100)
    covariates = {f"c{number}": rng.choice(["x", "y"], 100) for number in range(8)} | {"same": labels.astype(str)}
    found = associations(labels, covariates, **FEW)
    assert found[0].name == "same"
    assert found[0].adjusted == pytest.approx(9 * 0.01)


def test_one_class_has_nothing_to_tell():
    assert associations(np.zeros(10, dtype=np.int64), {"site": np.arange(10.0)}) == []


def test_a_hospital_is_no_finding_by_chance_if_patients_have_different_shares_of_malignant_slides():
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(10), 30)
        labels = (rng.random(300) < rng.beta(2, 2, 10)[groups]).astype(np.int64)
        site = (rng.permutation(10) < 5)[groups].astype(str)
        (each,) = associations(
            labels, {"site": site}, groups.astype(str), num_permutations=59, num_resamples=2, seed=seed
        )
        found.append(each.p_value)
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert np.mean(np.array(found) <= 0.5) >= 0.4
