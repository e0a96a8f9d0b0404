"""MUSK1, MUSK2, Fox, Tiger, Elephant: the small feature bags on which the field compares methods."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from milpath.data.sources.classic_formats import read_instances
from milpath.data.sources.feature_check import require_finite
from milpath.data.store.bag_store_writer import BagStoreWriter

# Names under which each set is published, tried in this order in a folder.
_FILES = {
    "musk1": ("musk1.npz", "clean1.data", "musk1.data", "musk1norm.svm", "musk1norm_matlab.mat"),
    "musk2": ("musk2.npz", "clean2.data", "musk2.data", "musk2norm.svm", "musk2norm_matlab.mat"),
    **{
        name: (f"{name}.npz", f"{name}_100x100_matlab.mat", f"{name}.mat", f"{name}.svm", "data_100x100.svm")
        for name in ("fox", "tiger", "elephant")
    },
}
_FOLDERS = ("", "{name}", "{title}", "Musk", "MilData/{title}", "MilData/Musk")


class ClassicMIL:
    """One of the classic sets, from any of the files in which it is published.

    Args:
        path: The file, or a folder that holds it under one of its usual names.
        name: "musk1", "musk2", "fox", "tiger" or "elephant".

    References:
        Dietterich, Lathrop, Lozano-Perez 1997 (musk; UCI repository); Andrews, Tsochantaridis, Hofmann 2002 (fox, tiger,
        elephant).
    """

    def __init__(self, path: str | Path, name: str) -> None:
        if name not in _FILES:
            raise ValueError(f"data.name is {name!r}; it must be one of {', '.join(_FILES)}")
        self.path = Path(path)
        self.name = name

    def describe(self) -> dict[str, Any]:
        """Return the name and a hash of the file.

        Raises:
            FileNotFoundError: If there is none.
        """
        return {"name": self.name, "sha256": hashlib.sha256(self._file().read_bytes()).hexdigest()}

    def write(self, writer: BagStoreWriter) -> None:
        """Write the bags in the order of the file.

        Raises:
            ValueError: If the file is not of its format, a bag has labels that differ, or a feature is no number.
        """
        path = self._file()
        instances = read_instances(path)
        if not len(instances.features) == len(instances.bags) == len(instances.labels) > 0:
            raise ValueError(f"{path} has {len(instances.features)} instances, but {len(instances.bags)} bag numbers")
        with np.errstate(over="ignore"):  # what float32 cannot hold is named below
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
                # Andrews' files of three sets have one name: only the folder tells them apart.
                if path.is_file() and (file != "data_100x100.svm" or path.parent.name.lower() == self.name):
                    return path
        raise FileNotFoundError(
            f"no {self.name} at {self.path}; give data.path=FILE_OR_FOLDER with one of {', '.join(_FILES[self.name])}"
        )
