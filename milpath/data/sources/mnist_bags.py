"""MNIST-bags: a bag of digits is positive if it contains a nine."""

import gzip
import hashlib
import struct
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from milpath.data.sources.npz_file import MAX_UNPACKED, read_arrays
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.error_text import reason_of

_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_KEYS = ("x_train", "y_train", "x_test", "y_test")


class Digits(NamedTuple):
    """Images `(digits, 28, 28)` uint8 and labels `(digits,)` of both parts of MNIST."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    def fingerprint(self) -> str:
        """Return a hash of all images and labels."""
        digest = hashlib.sha256()
        for array in self:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def read_digits(path: str | Path) -> Digits:
    """Read MNIST.

    Args:
        path: `mnist.npz` (x_train, y_train, x_test, y_test), a folder that holds it, or a folder with the four idx
            files, gzipped or not, as stored by torchvision (`MNIST/raw`), which downloads them there if they are
            missing.

    Raises:
        FileNotFoundError: If it does not exist and cannot be downloaded.
        ValueError: If a file is invalid.
    """
    path = Path(path)
    if path.suffix == ".npz" or (path / "mnist.npz").is_file():
        return _read_npz(path if path.suffix == ".npz" else path / "mnist.npz")
    folder = _idx_folder(path)
    if folder is None:
        _download(path)
        folder = _idx_folder(path)
    assert folder is not None
    return _checked(Digits(*(_read_idx(folder, name) for name in _FILES)), folder)


def _read_npz(path: Path) -> Digits:
    """Read the four arrays from one file."""
    if not path.is_file():
        raise FileNotFoundError(f"no MNIST at {path}; set data.path=FOLDER to download it there")
    try:
        arrays = read_arrays(path, _KEYS)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({reason_of(error)})") from None
    return _checked(Digits(*(arrays[key] for key in _KEYS)), path)


def _idx_folder(path: Path) -> Path | None:
    """Return the folder with all four idx files, `None` if there is none."""
    for folder in (path, path / "MNIST" / "raw", path / "raw"):
        if all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in _FILES):
            return folder
    return None


def _read_idx(folder: Path, name: str) -> np.ndarray:
    """Read one idx file: 0, 0, 8 (bytes), number of axes, each length as a big-endian word, then the bytes."""
    plain = folder / name
    try:
        with plain.open("rb") if plain.is_file() else gzip.open(folder / f"{name}.gz") as file:
            data = file.read(MAX_UNPACKED)  # more than this is no set of digits, and has a wrong header
        zero, kind, num_axes = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{num_axes}I", data[4 : 4 + 4 * num_axes])
        values = np.frombuffer(data, np.uint8, offset=4 + 4 * num_axes)
        if (zero, kind) != (0, 8) or values.size != np.prod(shape, dtype=np.int64):
            raise ValueError("wrong header")
    except (struct.error, EOFError, OSError, ValueError, zlib.error) as error:
        raise ValueError(f"{plain} is not an idx file of bytes ({error}); delete it to download it again") from None
    return values.reshape(shape)


def _download(path: Path) -> None:
    """Download the four files with torchvision."""
    from torchvision.datasets import MNIST

    try:
        MNIST(str(path), download=True)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"no MNIST at {path}, and the download failed ({reason_of(error)}); put mnist.npz or the four idx files there"
        ) from None


def _checked(digits: Digits, path: Path) -> Digits:
    """Refuse arrays that are not digits."""
    for images, labels in ((digits.train_images, digits.train_labels), (digits.test_images, digits.test_labels)):
        if images.ndim != 3 or images.dtype != np.uint8 or len(images) != len(labels) or images.shape[1:] != (28, 28):
            raise ValueError(
                f"{path} has {images.dtype} {images.shape} images and {len(labels)} labels; this is not MNIST"
            )
    return digits


class MnistBags:
    """Bags of handwritten digits, generated as in the paper.

    The length of a bag is drawn from a normal distribution, truncated to an integer of at least 1. Positive and
    negative bags alternate, starting with a positive one: it contains digits drawn with replacement, at least one of
    them the target; a negative one contains only other digits. Training and validation bags use MNIST's training
    digits, test bags its test digits, and the store records the split. The label of each digit is kept: 1 for the
    target.

    Attributes:
        split_column: The column with the split, which `BagDataModule` keeps.

    Args:
        path: File or folder of MNIST (see `read_digits`); it is downloaded to a folder without it.
        target_digit: The digit that makes a bag positive.
        mean_bag_length: Mean length of a bag.
        bag_length_std: Standard deviation of the length (called variance in the reference code).
        num_train_bags: Number of training bags.
        num_val_bags: Number of validation bags, drawn in addition to the training bags.
        num_test_bags: Number of test bags.
        bag_seed: Seed of all draws. The test bags do not depend on the number of training bags.

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, section 4.2.
    """

    split_column = "split"
    warning = "MNIST digits: says nothing about tissue"

    def __init__(
        self,
        path: str | Path,
        target_digit: int = 9,
        mean_bag_length: float = 10,
        bag_length_std: float = 2,
        num_train_bags: int = 200,
        num_val_bags: int = 0,
        num_test_bags: int = 1000,
        bag_seed: int = 0,
    ) -> None:
        if not 0 <= target_digit <= 9:
            raise ValueError(f"data.target_digit is {target_digit}; it must be 0 to 9")
        self.path = Path(path)
        self.target_digit = target_digit
        self.mean_bag_length = mean_bag_length
        self.bag_length_std = bag_length_std
        self.num_train_bags = num_train_bags
        self.num_val_bags = num_val_bags
        self.num_test_bags = num_test_bags
        self.bag_seed = bag_seed

    @cached_property
    def _digits(self) -> Digits:
        return read_digits(self.path)

    def describe(self) -> dict[str, Any]:
        """Return the parameters and a hash of the digits.

        Raises:
            FileNotFoundError: If MNIST does not exist and cannot be downloaded.
        """
        parameters = {name: value for name, value in vars(self).items() if name not in ("path", "_digits")}
        return parameters | {"digits": self._digits.fingerprint()}

    def write(self, writer: BagStoreWriter) -> None:
        """Draw all bags into a store."""
        digits = self._digits
        writer.expected_bags = self.num_train_bags + self.num_val_bags + self.num_test_bags
        for number, (split, images, labels, num_bags) in enumerate(
            (
                ("train", digits.train_images, digits.train_labels, self.num_train_bags),
                ("val", digits.train_images, digits.train_labels, self.num_val_bags),
                ("test", digits.test_images, digits.test_labels, self.num_test_bags),
            )
        ):
            rng = np.random.default_rng([self.bag_seed, number])
            for bag in range(num_bags):
                positive = bag % 2 == 0
                chosen = self.draw(labels, positive, rng)
                tile_labels = (labels[chosen] == self.target_digit).astype(np.int64)
                writer.add(
                    f"{split}_{bag:05d}",
                    images[chosen][..., None],
                    {"label": int(positive), "split": split},
                    {"tile_label": tile_labels, "digit": labels[chosen].astype(np.int64)},
                )

    def draw(self, labels: np.ndarray, positive: bool, rng: np.random.Generator) -> np.ndarray:
        """Return the digits of a bag as positions in `labels`, the label of each digit that may be drawn."""
        if not positive:
            others = np.flatnonzero(labels != self.target_digit)
            return rng.choice(others, self._length(rng))
        while True:
            chosen = rng.integers(0, len(labels), self._length(rng))
            if (labels[chosen] == self.target_digit).any():
                return chosen

    def _length(self, rng: np.random.Generator) -> int:
        """Return the length of a bag."""
        return max(1, int(rng.normal(self.mean_bag_length, self.bag_length_std)))
