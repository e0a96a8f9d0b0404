"""What is refused as labels that a network was not trained for."""

import pytest

from milpath.data.datamodule import BagDataModule
from milpath.data.store.stored_bags import StoredBags
from milpath.models.checkpoint import Card
from milpath.runs.evaluation.evaluated_data import keep_target, require_same_task


@pytest.mark.parametrize(
    ("trained", "given", "message"),
    [
        (
            "mutated",
            None,
            "trained on column 'mutated', .* 'label' would be tested; give data.label_column=mutated, or",
        ),
        ("dx", None, "trained for binary benign, malignant, but the data have binary 0, 1; set data.label_column=dx$"),
        ("dx", "label", "binary 0, 1; set data.target, data.task or data.class_names$"),
        ("mutated", "label", ""),
        ("mutated", "mutated", ""),
        ("absent", None, ""),
        ("label", None, ""),
        ("LABEL", None, ""),
        (None, None, ""),
    ],
)
def test_labels_of_another_column_than_that_of_the_training_are_never_tested_unasked(
    make_store, trained, given, message
):
    columns = {"mutated": [0, 1] * 4, "dx": ["benign", "malignant"] * 4}
    data = BagDataModule(
        StoredBags(make_store([2] * 8, [0, 0, 1, 1] * 2, (4,), **columns)), label_column=given, num_folds=1
    )
    data.setup("test")
    names = ("benign", "malignant") if trained == "dx" else ("0", "1")
    card = Card({}, names, "binary", data={} if trained is None else {"label_column": trained})
    if not message:
        require_same_task(card, data, "best.ckpt")
        return
    with pytest.raises(ValueError, match=message):
        require_same_task(card, data, "best.ckpt")


@pytest.mark.parametrize(
    ("trained", "num_classes", "given", "found"),
    [
        ("ordinal", 3, None, "ordinal"),
        ("ordinal", 3, "nominal", "nominal"),
        ("ordinal", 2, None, "binary"),
        ("binary", 3, None, "nominal"),
    ],
)
def test_classes_of_other_data_are_of_the_kind_of_the_network_unless_one_is_given(
    make_store, trained, num_classes, given, found
):
    labels = [number % num_classes for number in range(9)]
    data = BagDataModule(StoredBags(make_store([2] * 9, labels, (4,))), task=given, num_folds=1)
    keep_target(data, Card({}, tuple("0123"[:num_classes]), trained))
    data.setup("test")
    assert data.task == found
