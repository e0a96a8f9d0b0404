"""The authors' recipe for the classic sets, on small sets, and its comparison with a table."""

import json
import sys

import numpy as np
import pytest

from milpath.data.sources.classic_mil import Instances
from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

import classic_anchor
import classic_comparison


@pytest.fixture
def separable() -> Instances:
    """Forty bags of three instances, of which one of a positive bag is far from all others; the last feature is constant."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 6))
    features[:, 5] = 1
    features[0:120:6, 0] += 8
    return Instances(features, np.repeat(np.arange(40), 3), np.repeat(np.arange(40) % 2 == 0, 3).astype(np.int64))


@pytest.mark.parametrize("gated", [False, True])
def test_the_authors_recipe_learns_a_set_that_is_easy(separable, gated, monkeypatch):
    monkeypatch.setattr(classic_anchor, "EPOCHS", 12)
    folds = np.arange(40) // 2 % 10
    accuracies = classic_anchor.train(separable, folds, gated, (5e-3, 5e-3), 0)
    assert len(accuracies) == 10
    assert np.mean(accuracies) > 0.85


def test_a_fold_learns_nothing_from_the_bags_that_test_it(separable, monkeypatch):
    monkeypatch.setattr(classic_anchor, "EPOCHS", 2)
    folds = np.arange(40) // 2 % 10
    seen = []
    monkeypatch.setattr(
        classic_anchor, "Networks", lambda *a, made=classic_anchor.Networks: seen.append(made(*a)) or seen[-1]
    )
    classic_anchor.train(separable, folds, False, (5e-3, 5e-3), 0)
    turned = separable.labels.copy()
    turned[np.isin(separable.bags, np.flatnonzero(folds == 3))] ^= 1
    classic_anchor.train(separable._replace(labels=turned), folds, False, (5e-3, 5e-3), 0)
    first, second = (networks.weights["class"].detach() for networks in seen)
    same = [bool((first[fold] == second[fold]).all()) for fold in range(10)]
    assert same == [fold == 3 for fold in range(10)]


def test_the_comparison_pairs_the_folds_that_both_have(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("musk1", "fox"):
        theirs = rng.uniform(0.6, 0.8, 20).round(3)
        (tmp_path / "anchor").mkdir(exist_ok=True)
        (tmp_path / f"anchor/{name}_attention.json").write_text(json.dumps({"accuracies": theirs.tolist()}))
        for number, value in enumerate(theirs[:19]):
            folder = tmp_path / f"{name}/runs/attention_ensemble/repeat_{number // 10}/fold_{number % 10}"
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text(json.dumps({"test": {"accuracy": value + 0.05 + 0.01 * (number % 2)}}))
    words = [str(tmp_path / "anchor"), "attention_ensemble", str(tmp_path / "found.json")]
    classic_comparison.main(*words, *(f"{name}={tmp_path / name}" for name in ("musk1", "fox")))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["musk1"]["folds"] == found["average"]["folds"] == 19
    assert found["average"]["difference"] == pytest.approx(0.05 + 0.01 * 9 / 19, abs=1e-4)
    assert found["average"]["low"] < found["average"]["difference"] < found["average"]["high"]
