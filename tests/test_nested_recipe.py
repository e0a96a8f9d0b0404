"""The choice of a recipe inside each outer fold, on made-up answers."""

import csv
import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

import nested_recipe
from nested_recipe import CANDIDATES, FOLDS, METHOD, PAIRS, SETS

BAGS = {f"bag{number}": number % FOLDS for number in range(23)}


def write_answers(table, wrong):
    """Write what each pair of folds answers; `wrong(fold, other)`: whether bags of `fold` are wrong without `other`."""
    for number, pair in enumerate(PAIRS):
        folder = table / f"runs/{METHOD}/repeat_0/fold_{number}"
        folder.mkdir(parents=True)
        with (folder / "predictions.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "split", "label", "predicted"])
            for bag, fold in BAGS.items():
                tested = fold in pair
                answer = 0 if tested and wrong(fold, sum(pair) - fold) else 1
                writer.writerow([bag, "test" if tested else "train", 1, answer])


def test_pairs_test_two_folds_and_train_on_eight(tmp_path):
    nested_recipe.write_pairs(tmp_path / "pairs.csv", BAGS)
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(PAIRS) * len(BAGS)
    for number, pair in enumerate(PAIRS):
        tested = {row["id"] for row in rows if row["fold"] == str(number) and row["split"] == "test"}
        assert tested == {bag for bag, fold in BAGS.items() if fold in pair}


def test_the_inner_accuracy_of_a_fold_asks_no_bag_of_it_and_no_network_that_saw_it(tmp_path):
    # Bags of fold 3 are always wrong, and so is every bag where fold 7 was left out.
    write_answers(tmp_path, lambda fold, other: fold == 3 or other == 7)
    found = nested_recipe.inner_accuracies(tmp_path, BAGS)
    share = [list(BAGS.values()).count(fold) for fold in range(FOLDS)]
    assert found[3] == pytest.approx(1)
    assert found[7] == 0
    assert found[0] == pytest.approx(1 - share[3] / (23 - share[0]))


def test_an_incomplete_table_is_refused(tmp_path):
    write_answers(tmp_path, lambda fold, other: False)
    (tmp_path / f"runs/{METHOD}/repeat_0/fold_0/predictions.csv").write_text("id,split,label,predicted\n")
    with pytest.raises(ValueError, match="inner answers, expected"):
        nested_recipe.inner_accuracies(tmp_path, BAGS)


def test_each_fold_is_tested_with_what_its_own_training_bags_chose():
    rng = np.random.default_rng(0)
    inner = rng.uniform(0.5, 0.6, (2, len(SETS), len(CANDIDATES), FOLDS))
    best = rng.integers(len(CANDIDATES), size=(2, FOLDS))
    for repeat, fold in np.ndindex(2, FOLDS):
        inner[repeat, :, best[repeat, fold], fold] += 0.2
    outer = np.broadcast_to(
        np.arange(len(CANDIDATES))[None, :, None, None] / 10, (len(SETS), len(CANDIDATES), 2, FOLDS)
    )
    outer = outer.copy()
    outer[:, sorted({*range(1, len(CANDIDATES))} - {*best.ravel().tolist()})] = np.nan  # nobody chose them
    authors = rng.uniform(0.0, 0.2, (len(SETS), 2 * FOLDS))
    found = nested_recipe.table_of(inner, outer, authors)
    np.testing.assert_allclose(found["accuracies"]["fox"], best.ravel() / 10)
    assert [row["chosen"] for row in found["candidates"].values()] == np.bincount(best.ravel(), minlength=8).tolist()
    name, folds, nested, fixed, theirs, *_ = found["rows"][-1]
    assert (name, folds, fixed) == ("average", 2 * FOLDS, "0.000 ± 0.000")
    assert nested.startswith(f"{best.mean() / 10:.3f} ± ")
    assert theirs.startswith(f"{authors.mean():.3f} ± ")
