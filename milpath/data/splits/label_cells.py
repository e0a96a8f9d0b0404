"""Cells of labels in the table of a split: the index of a class, or a tuple of numbers."""

import math

import numpy as np
import pandas as pd

from milpath.records.digests import sha256_of_text


def text_of_label(label: int | tuple[float, ...]) -> str:
    """Return a label as text: the index of a class, or numbers separated by semicolons, nothing for a missing one.

    Example:
        >>> text_of_label(1), text_of_label((12.5, 1.0)), text_of_label((float("nan"), 1.0))
        ('1', '12.5;1', ';1')
    """
    if not isinstance(label, tuple):
        return str(int(label))
    return ";".join("" if math.isnan(value) else f"{value:.15g}" for value in label)


def label_array(labels: pd.Series) -> np.ndarray:
    """Return the labels of a table: int64 `(bags,)` of classes, or float64 `(bags, columns)` of numbers."""
    if len(labels) and isinstance(labels.iloc[0], tuple):
        return np.array(labels.tolist(), dtype=np.float64)
    return labels.to_numpy(dtype=np.int64)


def hash_of_labels(table: pd.DataFrame) -> str:
    """Return a hash of the labels of all bags, independent of their order."""
    pairs = sorted(zip(table["bag_id"].astype(str), table["label"].map(text_of_label), strict=True))
    return sha256_of_text("\n".join(f"{name},{label}" for name, label in pairs))
