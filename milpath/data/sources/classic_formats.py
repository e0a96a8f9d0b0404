"""The file formats in which the classic sets of feature bags are passed around."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from milpath.records.error_text import reason_of


class Instances(NamedTuple):
    """Instances of all bags.

    Attributes:
        features: `(instances, features)` float64.
        bags: `(instances,)` name of the bag of each instance.
        labels: `(instances,)` label of its bag, 0 or 1.
    """

    features: np.ndarray
    bags: np.ndarray
    labels: np.ndarray


def read_instances(path: Path) -> Instances:
    """Read a file by its suffix: `.npz`, `.data` (UCI), `.svm` or `.mat` (Andrews et al.).

    Raises:
        ValueError: If the suffix is unknown or the content is not what the format has.
    """
    if path.suffix not in _READERS:
        raise ValueError(f"{path} has the suffix {path.suffix!r}; expected one of {', '.join(_READERS)}")
    try:
        return _READERS[path.suffix](path)
    except (ValueError, KeyError, IndexError, OSError, EOFError, zipfile.BadZipFile) as error:
        text = f"no key {error}" if isinstance(error, KeyError) else reason_of(error)
        raise ValueError(f"{path} cannot be read as {path.suffix[1:]} of a classic MIL set ({text})") from None


def _read_npz(path: Path) -> Instances:
    """Read arrays X (instances, features), bag (0-based index of each instance's bag) and y (0 or 1 for each bag)."""
    with np.load(path, allow_pickle=False) as arrays:
        features, bags, labels = arrays["X"], arrays["bag"].astype(np.int64), arrays["y"]
    if labels.ndim != 1 or not np.array_equal(np.unique(bags), np.arange(len(labels))):
        wrong = sorted(set(range(len(labels))) ^ set(bags.tolist()))
        text = f"bag {wrong[0]} has no instance" if 0 <= wrong[0] < len(labels) else f"bag {wrong[0]} has no label"
        raise ValueError(f"{text}; expected bags 0..{len(labels) - 1} with an instance and a label each")
    return Instances(features.astype(np.float64), bags, labels[bags])


def _read_uci(path: Path) -> Instances:
    """Read lines `molecule,conformation,feature 1,...,feature n,class`; a molecule is a bag."""
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    features = np.array([[float(value) for value in row[2:-1]] for row in rows])
    # The class is written with a point: `1.`.
    labels = np.array([float(row[-1]) for row in rows])
    return Instances(features, np.array([row[0] for row in rows]), (labels > 0).astype(np.int64))


def _read_svm(path: Path) -> Instances:
    """Read lines `instance:bag:label 1:value 2:value ...`; features that are 0 may be left out, `#` begins a comment."""
    rows, bags, labels = [], [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        _, bag, label = words[0].split(":")
        pairs = [word.split(":") for word in words[1:]]
        rows.append({int(index): float(value) for index, value in pairs})
        bags.append(int(bag))
        labels.append(int(float(label) > 0))
    width = max(max(row, default=0) for row in rows)
    if not 0 < width < 10**6 or min(min(row, default=1) for row in rows) < 1:
        raise ValueError(f"feature numbers go up to {width}")
    features = np.zeros((len(rows), width))
    for number, row in enumerate(rows):
        features[number, np.array([*row], dtype=int) - 1] = [*row.values()]
    return Instances(features, np.array(bags), np.array(labels))


def _read_mat(path: Path) -> Instances:
    """Read `features` (instances, features), `bag_ids` and `labels` (one an instance, above 0 for positive bags)."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        # Only these three are read; a MATLAB file holds data, never code that would be run.
        content = loadmat(path, variable_names=["features", "bag_ids", "labels"])
    except (MatReadError, NotImplementedError, TypeError) as error:
        raise ValueError(reason_of(error)) from None
    features, bags, labels = (_dense(content[key]) for key in ("features", "bag_ids", "labels"))
    return Instances(features, bags.ravel().astype(np.int64), (labels.ravel() > 0).astype(np.int64))


def _dense(values: object) -> np.ndarray:
    """Return a sparse or dense matrix as an array of float64."""
    array = values.toarray() if hasattr(values, "toarray") else values
    return np.asarray(array, dtype=np.float64)


_READERS: Mapping[str, Callable[[Path], Instances]] = {
    ".npz": _read_npz,
    ".data": _read_uci,
    ".svm": _read_svm,
    ".mat": _read_mat,
}
