"""What is known of labelled and split bags: their names, labels, groups and counts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.splits.assign_splits import SPLITS
from milpath.data.splits.bag_lists import group_of_each_bag
from milpath.data.splits.bag_table import SplitOptions
from milpath.data.splits.chosen_target import label_counts
from milpath.data.splits.label_cells import hash_of_labels, label_array, text_of_label
from milpath.data.store.bag_store import BagStore
from milpath.records.label_table import find_column
from milpath.targets import NumericTarget, Target
from milpath.targets.columns.label_columns import columns_read, default_column


class LabelledBags:
    """Bags with a label and a split; the base of a data module, which sets the attributes.

    Attributes:
        target: What is predicted where the target has classes: "label", "malignant" or "isup".
        label_frame: One row per bag: `bag_id`, `index` (position in the store), `label`, `split` and columns of the data.
        class_names: Names of the classes, or of the predicted quantities.
        fitted_target: The target, fitted on the training split.
        tile_store: The tiles of the data.
        patient_column: Column of the patient of a bag, if the data have it.
        aggregate: How predictions of slides become those of patients; `None` if they do not.
    """

    target: str
    label_frame: pd.DataFrame
    class_names: tuple[str, ...]
    fitted_target: Target
    tile_store: BagStore
    patient_column: str
    aggregate: str | None
    _split_options: SplitOptions
    _store: BagStore | None

    def __str__(self) -> str:
        """Return task, classes and numbers of bags, such as for `print` in a notebook."""
        if self._store is None:
            return f"{type(self).__name__}, before setup()"
        counts = ", ".join(f"{len(self.bag_ids(split)):,} {split}" for split in self.splits)
        task = f"{self.fitted_target.name} ({', '.join(self.class_names)})"
        return f"{type(self).__name__}, {task}: {counts} of {len(self.label_frame):,} bags in {self.store.path}"

    @property
    def store(self) -> BagStore:
        """The tiles that are loaded: those of the data, or their features; available after `setup`."""
        if self._store is None:
            raise RuntimeError("call datamodule.setup() first")
        return self._store

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """`(height, width, channels)` of a tile, or `(features,)`."""
        return self.store.tile_shape

    @property
    def splits(self) -> list[str]:
        """Names of the non-empty splits, in the order train, val, test."""
        return [split for split in SPLITS if (self.label_frame["split"] == split).any()]

    @property
    def groups(self) -> dict[str, str] | None:
        """Each bag to its group, which is kept in one split; `None` without groups, and for results by patient."""
        return None if self.aggregate else self.split_groups

    @property
    def split_groups(self) -> dict[str, str] | None:
        """Each bag to its group, which is kept in one split, whatever the results are of; `None` without groups."""
        return group_of_each_bag(self.tile_store.bags, self._split_options.group_column, self._split_options.groups)

    def group_by_patient(self) -> None:
        """Take the patients for groups if the data name them and no other groups were given, as for results by patient."""
        options = self._split_options
        column = find_column(self.tile_store.bags.columns, self.patient_column)
        if column is not None and not (options.group_column or options.groups):
            self._split_options = replace(options, group_column=column)

    @property
    def group_column(self) -> str | None:
        """Column of the groups that are kept in one split; `None` without groups, and for those of a file."""
        return self._split_options.group_column

    @property
    def label_column(self) -> str | Mapping[str, str] | None:
        """Column of the labels that was chosen, or that the source declares; `None` for that of the target."""
        return self._split_options.label_column

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the table that the labels are read from; available after `setup`."""
        target = self.fitted_target if isinstance(self.fitted_target, NumericTarget) else None
        return columns_read(target, self.label_column, default_column(self.target))

    @property
    def split_column(self) -> str | None:
        """Column of the data with their own split; `None` if a split is made or read from a file."""
        return None if self._split_options.splits else self._split_options.split_column

    @property
    def tiling(self) -> dict[str, Any]:
        """How slides were cut into tiles, as recorded in the store."""
        return dict(self.store.description.get("tiling", {}))

    @property
    def description(self) -> dict[str, Any]:
        """Description of the data for the provenance of a run; plain values."""
        names = {"class_names": list(self.class_names), "labels_sha256": hash_of_labels(self.label_frame)}
        return self.store.record() | names | label_counts(self.fitted_target, self.label_frame, len(self.class_names))

    def bag_ids(self, split: str) -> list[str]:
        """Return the names of the bags of a split, in the order of the store."""
        return self.label_frame.loc[self.label_frame["split"] == split, "bag_id"].tolist()

    def split_frame(self) -> pd.DataFrame:
        """Return `id, split, label` of every bag, which `data.splits` reads."""
        frame = self.label_frame[["bag_id", "split", "label"]].rename(columns={"bag_id": "id"})
        return frame if self.fitted_target.has_classes else frame.assign(label=frame["label"].map(text_of_label))

    def splits_table(self) -> pd.DataFrame:
        """Return the content of `splits.csv`: `split_frame`, and `group` if the split keeps groups together."""
        frame, groups = self.split_frame(), self.split_groups
        return frame if groups is None else frame.assign(group=frame["id"].astype(str).map(groups))

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split, `(bags,)` classes or `(bags, columns)` numbers, in the order of the store."""
        return label_array(self.label_frame.loc[self.label_frame["split"] == split, "label"])

    def class_counts(self, split: str) -> list[int]:
        """Return the number of bags of each class in a split."""
        labels = self.label_frame.loc[self.label_frame["split"] == split, "label"]
        return [int((labels == number).sum()) for number in range(self.num_classes)]
