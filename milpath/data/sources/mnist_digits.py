"""The digits of MNIST, read where they lie or downloaded once."""

import gzip
import hashlib
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

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
        """Return a hash of all of it."""
        digest = hashlib.sha256()
        for array in self:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def read_digits(path: str | Path) -> Digits:
    """Read MNIST.

    Args:
        path: `mnist.npz` (x_train, y_train, x_test, y_test), a folder that holds it, or a folder with the four idx files,
            gzipped or not, as torchvision keeps them (`MNIST/raw`); torchvision downloads them there if they are missing.

    Raises:
        FileNotFoundError: If it is not there and cannot be downloaded.
        ValueError: If a file is not what it should be.
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
    """Read the four arrays of one file."""
    if not path.is_file():
        raise FileNotFoundError(f"no MNIST at {path}; give data.path=FOLDER to download it there")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [key for key in _KEYS if key not in arrays]
            if missing:
                raise ValueError(f"{path} has no array {missing[0]!r}; it has {', '.join(arrays.files)}")
            digits = Digits(*(arrays[key] for key in _KEYS))
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({reason_of(error)})") from None
    return _checked(digits, path)


def _idx_folder(path: Path) -> Path | None:
    """Return the folder with all four idx files, if there is one."""
    for folder in (path, path / "MNIST" / "raw", path / "raw"):
        if all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in _FILES):
            return folder
    return None


def _read_idx(folder: Path, name: str) -> np.ndarray:
    """Read one idx file: 0, 0, 8 (bytes), number of axes, each length as a big-endian word, then the bytes."""
    plain = folder / name
    try:
        data = plain.read_bytes() if plain.is_file() else gzip.decompress((folder / f"{name}.gz").read_bytes())
        zero, kind, num_axes = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{num_axes}I", data[4 : 4 + 4 * num_axes])
        values = np.frombuffer(data, np.uint8, offset=4 + 4 * num_axes)
        if (zero, kind) != (0, 8) or values.size != np.prod(shape, dtype=np.int64):
            raise ValueError("wrong header")
    except (struct.error, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{plain} is no idx file of bytes ({error}); delete it to download it again") from None
    return values.reshape(shape)


def _download(path: Path) -> None:
    """Let torchvision fetch the four files."""
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
            raise ValueError(f"{path} holds {images.dtype} {images.shape} images and {len(labels)} labels: no MNIST")
    return digits
