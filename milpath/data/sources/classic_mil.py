"""Classic MIL benchmarks: MUSK1, MUSK2, Fox, Tiger and Elephant."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from milpath.data.sources.features.feature_check import require_finite
from milpath.data.sources.npz_file import read_arrays
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.digests import sha256_of_file
from milpath.records.error_text import reason_of

# File names under which each set is published, tried in this order in a folder.
_FILES = {
    "musk1": ("musk1.npz", "clean1.data", "musk1.data", "musk1norm.svm", "musk1norm_matlab.mat"),
    "musk2": ("musk2.npz", "clean2.data", "musk2.data", "musk2norm.svm", "musk2norm_matlab.mat"),
    **{
        name: (f"{name}.npz", f"{name}_100x100_matlab.mat", f"{name}.mat", f"{name}.svm", "data_100x100.svm")
        for name in ("fox", "tiger", "elephant")
    },
}
# The largest of them, Musk2, has a million.
_MOST_VALUES = 1 << 27
_FOLDERS = ("", "{name}", "{title}", "Musk", "MilData/{title}", "MilData/Musk")


class Instances(NamedTuple):
    """Instances of all bags.

    Attributes:
        features: `(instances, features)` float64.
        bags: `(instances,)` bag of each instance.
        labels: `(instances,)` label of the bag of each instance, 0 or 1.
    """

    features: np.ndarray
    bags: np.ndarray
    labels: np.ndarray


def read_instances(path: Path) -> Instances:
    """Read a file by its suffix: `.npz`, `.data` (UCI), `.svm` or `.mat` (Andrews et al.).

    Raises:
        ValueError: If the suffix is unknown or the content does not have this format.
    """
    if path.suffix not in _READERS:
        raise ValueError(f"{path} has the suffix {path.suffix!r}; expected one of {', '.join(_READERS)}")
    try:
        return _READERS[path.suffix](path)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError, OSError, EOFError) as error:
        text = f"no key {error}" if isinstance(error, KeyError) else reason_of(error)
        raise ValueError(f"{path} cannot be read as a classic MIL set in {path.suffix[1:]} format ({text})") from None


def _read_npz(path: Path) -> Instances:
    """Read arrays X (instances, features), bag (0-based index of each instance's bag) and y (0 or 1 for each bag)."""
    arrays = read_arrays(path, ("X", "bag", "y"))
    features, bags, labels = arrays["X"], arrays["bag"].astype(np.int64), arrays["y"]
    if labels.ndim != 1 or not np.array_equal(np.unique(bags), np.arange(len(labels))):
        wrong = sorted(set(range(len(labels))) ^ set(bags.tolist()))
        text = f"bag {wrong[0]} has no instance" if 0 <= wrong[0] < len(labels) else f"bag {wrong[0]} has no label"
        raise ValueError(f"{text}; expected bags 0..{len(labels) - 1}, each with an instance and a label")
    return Instances(features.astype(np.float64), bags, labels[bags])


def _read_uci(path: Path) -> Instances:
    """Read lines `molecule,conformation,feature 1,...,feature n,class`; a molecule is a bag."""
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    features = np.array([[float(value) for value in row[2:-1]] for row in rows])
    # The class is written with a decimal point: `1.`.
    labels = np.array([float(row[-1]) for row in rows])
    return Instances(features, np.array([row[0] for row in rows]), (labels > 0).astype(np.int64))


def _read_svm(path: Path) -> Instances:
    """Read lines `instance:bag:label 1:value 2:value ...`; features that are 0 may be omitted, `#` starts a comment."""
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
    _require_size((len(rows), width))
    features = np.zeros((len(rows), width))
    for number, row in enumerate(rows):
        features[number, np.array([*row], dtype=int) - 1] = [*row.values()]
    return Instances(features, np.array(bags), np.array(labels))


def _read_mat(path: Path) -> Instances:
    """Read `features` (instances, features), `bag_ids` and `labels` (one per instance, above 0 for positive bags)."""
    from scipy.io import loadmat

    try:
        # Only these three are read; a MATLAB file contains only data, never code that would be executed.
        content = loadmat(path, variable_names=["features", "bag_ids", "labels"])
    except Exception as error:  # a damaged file can raise anything, also zlib.error and UnboundLocalError
        raise ValueError(reason_of(error)) from None
    features, bags, labels = (_dense(content[key]) for key in ("features", "bag_ids", "labels"))
    return Instances(features, bags.ravel().astype(np.int64), (labels.ravel() > 0).astype(np.int64))


def _dense(values: Any) -> np.ndarray:
    """Return a sparse or dense matrix as an array of float64."""
    if hasattr(values, "toarray"):
        _require_size(values.shape)  # a sparse matrix of any size has a few bytes
        values = values.toarray()
    return np.asarray(values, dtype=np.float64)


def _require_size(shape: tuple[int, ...]) -> None:
    if math.prod(shape) > _MOST_VALUES:
        raise ValueError(f"features are {shape}, more than such a set can have")


_READERS: Mapping[str, Callable[[Path], Instances]] = {
    ".npz": _read_npz,
    ".data": _read_uci,
    ".svm": _read_svm,
    ".mat": _read_mat,
}


class ClassicMIL:
    """One of the classic MIL sets, read from any of its published file formats.

    Args:
        path: The file, or a folder that contains it under one of its usual names.
        name: "musk1", "musk2", "fox", "tiger" or "elephant".

    References:
        Dietterich, Lathrop, Lozano-Perez 1997 (musk; UCI repository); Andrews, Tsochantaridis, Hofmann 2002 (fox, tiger,
        elephant).
    """

    gives = "features"

    def __init__(self, path: str | Path, name: str) -> None:
        if name not in _FILES:
            raise ValueError(f"data.name is {name!r}; it must be one of {', '.join(_FILES)}")
        self.path = Path(path)
        self.name = name

    def describe(self) -> dict[str, Any]:
        """Return the name and a hash of the file. Raises: FileNotFoundError: If the file does not exist."""
        return {"name": self.name, "sha256": sha256_of_file(self._file())}

    def write(self, writer: BagStoreWriter) -> None:
        """Write the bags in the order of the file.

        Raises:
            ValueError: If the file does not have the expected format, the labels within a bag differ, or a feature is
                not finite.
        """
        path = self._file()
        instances = read_instances(path)
        if instances.features.ndim != 2:
            raise ValueError(f"features in {path} are {instances.features.shape}, expected (instances, features)")
        if not len(instances.features) == len(instances.bags) == len(instances.labels) > 0:
            raise ValueError(f"{path} has {len(instances.features)} instances, but {len(instances.bags)} bag numbers")
        with np.errstate(over="ignore"):  # values beyond float32 are reported below
            features = instances.features.astype(np.float32)
        names, first = np.unique(instances.bags, return_index=True)
        for number, bag in enumerate(names[np.argsort(first)]):
            rows = np.flatnonzero(instances.bags == bag)
            bag_id = str(bag) if instances.bags.dtype.kind in "US" else f"{self.name}_{number:03d}"
            labels = np.unique(instances.labels[rows])
            if len(labels) > 1:
                raise ValueError(f"instances of bag {bag_id!r} in {path} have labels of both classes")
            require_finite(features[rows], bag_id, path)
            writer.add(bag_id, features[rows], {"label": int(labels[0])})

    def _file(self) -> Path:
        """Return the file of the set."""
        if self.path.is_file():
            return self.path
        for folder in _FOLDERS:
            for file in _FILES[self.name]:
                path = self.path / folder.format(name=self.name, title=self.name.title()) / file
                # Andrews' files of three sets have the same name and differ only in the folder.
                if path.is_file() and (file != "data_100x100.svm" or path.parent.name.lower() == self.name):
                    return path
        raise FileNotFoundError(
            f"no {self.name} at {self.path}; set data.path=FILE_OR_FOLDER with one of {', '.join(_FILES[self.name])}"
        )
