import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milpath.data.splits.assign_splits import assign_folds, hold_out_validation, make_splits
from tests.drawn_data import draw_panda_labels

NAMES = ("benign", "malignant")


def bags_of(count, **columns):
    return pd.DataFrame({"bag_id": [f"{number:05d}" for number in range(count)], **columns})


def fold_of_each(bags, labels, num_folds, **options):
    """The fold in which each bag is a test bag; -1 if none, and an error if several."""
    folds = np.full(len(bags), -1)
    for fold in range(num_folds):
        split = make_splits(bags, labels, NAMES, fold=fold, num_folds=num_folds, **options)
        assert (folds[split == "test"] == -1).all()
        folds[split == "test"] = fold
    return folds


@settings(max_examples=40)
@given(st.integers(2, 6), st.integers(0, 3), st.data())
def test_every_bag_is_tested_once_and_folds_have_equal_shares(num_folds, seed, data):
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=30, max_size=80)))
    if min((labels == 0).sum(), (labels == 1).sum()) < num_folds:
        return
    val_fraction = 0.2 if num_folds == 2 else None
    folds = fold_of_each(bags_of(len(labels)), labels, num_folds, split_seed=seed, val_fraction=val_fraction)
    assert folds.min() == 0
    for number in (0, 1):
        counts = np.bincount(folds[labels == number], minlength=num_folds)
        assert counts.max() - counts.min() <= 1


@pytest.fixture(scope="module", params=["drawn", "real"])
def panda_labels(request, tmp_path_factory):
    """The label table of PANDA: drawn, and the real one where it is at hand."""
    if request.param == "real":
        path = request.getfixturevalue("shared_data") / "panda_meta/train.csv"
    else:
        path = draw_panda_labels(tmp_path_factory.mktemp("labels") / "train.csv")
    return pd.read_csv(path).rename(columns={"image_id": "bag_id"})


def test_labels_are_balanced_by_grade_and_provider(panda_labels):
    table = panda_labels
    labels = (table["isup_grade"] >= 1).to_numpy(dtype=np.int64)
    folds = fold_of_each(table, labels, 5, stratify_by=["data_provider"])
    for _, part in table.assign(fold=folds, label=labels).groupby(["label", "data_provider"]):
        counts = part["fold"].value_counts()
        assert counts.max() - counts.min() <= 1


def test_duplicates_of_the_real_data_are_never_on_two_sides(shared_data):
    table = pd.read_csv(shared_data / "panda_meta" / "train.csv").rename(columns={"image_id": "bag_id"})
    groups = pd.read_csv(shared_data / "panda_meta" / "duplicates_imghash090_1st_place.csv").set_index("image_id")[
        "group_id"
    ]
    names = (
        table["bag_id"].map(groups).astype(str).where(table["bag_id"].isin(groups.index), table["bag_id"]).to_numpy()
    )
    labels = (table["isup_grade"] >= 1).to_numpy(dtype=np.int64)
    split = make_splits(table, labels, NAMES, groups=names, stratify_by=["data_provider"])
    assert pd.DataFrame({"group": names, "split": split}).groupby("group")["split"].nunique().max() == 1
    shares = pd.Series(labels).groupby(split).mean()
    assert shares.max() - shares.min() < 0.005
    assert abs((split == "test").mean() - 0.2) < 0.002


def test_groups_are_never_on_two_sides_and_classes_stay_balanced(tmp_path):
    table = pd.read_csv(draw_panda_labels(tmp_path / "train.csv")).rename(columns={"image_id": "bag_id"})
    # A third of the slides have a duplicate, some have several.
    names = np.where(np.arange(len(table)) % 3 == 0, np.arange(len(table)) // 9, 10_000 + np.arange(len(table))).astype(
        str
    )
    labels = (table["isup_grade"] >= 1).to_numpy(dtype=np.int64)
    split = make_splits(table, labels, NAMES, groups=names, stratify_by=["data_provider"])
    assert pd.Series(names).value_counts().max() == 3
    assert pd.DataFrame({"group": names, "split": split}).groupby("group")["split"].nunique().max() == 1
    shares = pd.Series(labels).groupby(split).mean()
    assert shares.max() - shares.min() < 0.03
    assert abs((split == "test").mean() - 0.2) < 0.02


def test_the_split_depends_on_neither_the_order_of_bags_nor_global_seeds():
    labels = np.arange(40) % 2
    bags = bags_of(40)
    order = np.random.default_rng(3).permutation(40)
    np.random.seed(1)  # noqa: NPY002
    one = make_splits(bags, labels, NAMES)
    np.random.seed(2)  # noqa: NPY002
    other = make_splits(bags.iloc[order].reset_index(drop=True), labels[order], NAMES)
    assert one[order].tolist() == other.tolist()


def test_another_seed_gives_another_split():
    labels, bags = np.arange(40) % 2, bags_of(40)
    assert make_splits(bags, labels, NAMES).tolist() != make_splits(bags, labels, NAMES, split_seed=1).tolist()


def test_validation_is_the_next_fold_or_a_share_or_none():
    labels, bags = np.arange(50) % 2, bags_of(50)
    folds = fold_of_each(bags, labels, 5)
    split = make_splits(bags, labels, NAMES, fold=4)
    assert set(folds[split == "val"]) == {0}
    share = make_splits(bags, labels, NAMES, fold=4, val_fraction=0.25)
    assert (share == "val").sum() == 10
    assert labels[share == "val"].mean() == 0.5
    assert ((share == "test") == (split == "test")).all()
    assert (make_splits(bags, labels, NAMES, val_fraction=0) == "val").sum() == 0


def test_one_fold_makes_every_bag_a_test_bag():
    assert set(make_splits(bags_of(5), np.zeros(5, int), NAMES, num_folds=1)) == {"test"}


def test_a_split_of_the_data_set_keeps_its_test_bags():
    labels, bags = np.arange(40) % 2, bags_of(40)
    own = np.array(["train"] * 30 + ["test"] * 10, dtype=object)
    split = hold_out_validation(bags, labels, own, val_fraction=0.2)
    assert (split[30:] == "test").all()
    assert (split[:30] == "val").sum() == 6
    assert hold_out_validation(bags, labels, own, val_fraction=None).tolist() == own.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_folds": 0}, "data.num_folds is 0; it must be 1 or more"),
        ({"fold": 5}, "data.fold is 5; with data.num_folds=5 it must be in 0..4"),
        ({"val_fraction": 1.0}, "data.val_fraction is 1.0; it must be in [0, 1), or null for the next fold"),
        ({"num_folds": 2},
         "data.num_folds=2 leaves no training split besides test and validation; set data.val_fraction=0.2"),
        ({"num_folds": 8}, "class 'malignant' has 6 bags, fewer than data.num_folds=8; set data.num_folds=6 or less"),
        ({"stratify_by": ["hospital"]},
         "data.stratify_by names 'hospital', which the data do not have; they have bag_id; "
         "name one of these, or set data.stratify_by=[]"),
        ({"groups": np.repeat(["a", "b", "c"], 10)},
         "the bags are in 3 groups, fewer than data.num_folds=5; use fewer folds"),
        ({"groups": np.array(["p"] * 6 + [f"n{n}" for n in range(24)])},
         "all 6 bags of class 'malignant' are in 1 group(s) ('p'), so 5 folds cannot each have one; "
         "split by other groups, or by none"),
        ({"groups": np.array(["p", "q"] * 3 + [f"n{n}" for n in range(24)])},
         "all 6 bags of class 'malignant' are in 2 group(s) ('p', 'q'), so 5 folds cannot each have one; "
         "set data.num_folds=2 or less"),
    ],
)  # fmt: skip
def test_a_split_that_cannot_be_made_is_one_line(options, message):
    labels = np.array([1] * 6 + [0] * 24)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_splits(bags_of(30), labels, NAMES, **options)


def test_bags_without_an_entry_in_a_column_are_a_stratum_of_their_own():
    bags = bags_of(20, provider=["karolinska", None] * 10)
    split = make_splits(bags, np.arange(20) // 2 % 2, ["benign", "malignant"], stratify_by=["provider"])
    assert set(split) == {"train", "val", "test"}
    assert bags.loc[split == "test", "provider"].isna().sum() == 2


def test_shares_are_kept_in_every_stratum():
    strata = np.repeat(np.arange(3), 100)[:, None]
    folds = assign_folds(strata, np.arange(300), [0.2, 0.8], np.random.default_rng(0))
    for stratum in range(3):
        assert (folds[strata[:, 0] == stratum] == 0).sum() == 20


def test_groups_stay_whole_and_sizes_even_out():
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 60, 400))
    groups = np.unique(groups, return_inverse=True)[1]
    strata = rng.integers(0, 2, (400, 1))
    folds = assign_folds(strata, groups, [1.0] * 5, np.random.default_rng(1))
    assert all(len(set(folds[groups == group])) == 1 for group in np.unique(groups))
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 8
    shares = [strata[folds == fold].mean() for fold in range(5)]
    assert max(shares) - min(shares) < 0.06


def test_the_second_level_is_balanced_where_the_first_leaves_a_choice():
    """Six strata of three bags each: one level alone could pile one label up in a fold."""
    first = np.repeat(np.arange(6), 4)
    second = first % 2
    folds = assign_folds(np.stack([first, second], axis=1), np.arange(24), [1.0] * 3, np.random.default_rng(0))
    for label in (0, 1):
        assert np.bincount(folds[second == label], minlength=3).tolist() == [4, 4, 4]
