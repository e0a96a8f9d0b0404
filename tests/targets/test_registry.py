"""Targets by name, and targets with options."""

import numpy as np
import pytest

from milpath.data.datamodule import BagDataModule
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.stored_bags import StoredBags
from milpath.targets import Multilabel, Regression, target_named


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> StoredBags:
    folder = tmp_path_factory.mktemp("targets") / "store"
    with BagStoreWriter(folder) as writer:
        for number in range(8):
            columns = {"age": 40 + number, "psa": 2.5 * number, "label": number % 2, "her2": number // 2 % 2}
            writer.add(f"slide_{number}", np.ones((2, 3), np.float32), columns)
    return StoredBags(folder)


def columns_of(source: StoredBags, **options) -> tuple[str, ...]:
    data = BagDataModule(source, num_folds=2, val_fraction=0.25, **options)
    data.setup()
    return data.class_names


def test_the_options_of_a_target_do_not_outlive_its_data(source):
    assert columns_of(source, task=Regression(["age", "psa"], loss="squared")) == ("age", "psa")
    assert columns_of(source, task="regression", label_column="age") == ("age",)
    assert target_named("regression").loss == "huber"
    assert columns_of(source, task=Multilabel(["label", "her2"])) == ("label", "her2")
    with pytest.raises(ValueError, match="names no targets"):
        columns_of(source, task="multilabel")


def test_two_data_modules_keep_the_targets_they_were_given(source):
    first = BagDataModule(source, num_folds=2, val_fraction=0.25, task=Regression(["age"]))
    second = BagDataModule(source, num_folds=2, val_fraction=0.25, task=Regression(["psa"], delta=2.0))
    first.setup()
    second.setup()
    assert first.fitted_target.names == ("age",)
    assert second.fitted_target.names == ("psa",)
    assert (first.fitted_target.delta, second.fitted_target.delta) == (1.0, 2.0)


def test_a_target_under_the_name_of_another_class_is_refused(source):
    class Other(Regression):
        pass

    with pytest.raises(ValueError, match="the name 'regression' is taken by Regression"):
        BagDataModule(source, task=Other(["age"]))
