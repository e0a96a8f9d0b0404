import gzip
import json
import shutil
import struct

import numpy as np
import pytest

from milpath.data.sources.mnist_bags import Digits, MnistBags, read_digits
from milpath.data.store.store_build import open_or_build
from tests.drawn_data import draw_digits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noise in place of digits, in the form of MNIST."""
    return draw_digits(tmp_path_factory.mktemp("mnist"))


@pytest.fixture(scope="module")
def digits(folder):
    return read_digits(folder / "mnist.npz")


def write_idx(folder, digits, compress=False):
    folder.mkdir(parents=True)
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    for name, array in zip(names, digits, strict=True):
        data = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
        (folder / (f"{name}.gz" if compress else name)).write_bytes(gzip.compress(data, 1) if compress else data)


def test_the_digits_are_those_of_mnist(shared_data, tmp_path):
    """The idx files that they make have the published checksums."""
    import hashlib

    digits = read_digits(shared_data / "mnist/mnist.npz")
    write_idx(tmp_path / "raw", digits)
    published = json.loads((shared_data / "mnist" / "idx_md5.json").read_text())
    for name, md5 in published.items():
        written = tmp_path / "raw" / name.removesuffix(".gz").replace(".idx", "-idx")
        if written.exists():
            assert hashlib.md5(written.read_bytes()).hexdigest() == md5
    assert digits.train_images.shape == (60000, 28, 28)


@pytest.mark.parametrize(("place", "compress"), [("MNIST/raw", False), ("", True)])
def test_idx_files_are_read_where_torchvision_keeps_them(digits, tmp_path, place, compress):
    few = Digits(*(array[:100] for array in digits))
    write_idx(tmp_path / "root" / place, few, compress)
    again = read_digits(tmp_path / "root")
    for one, other in zip(few, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_missing_file_of_digits_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^no MNIST at .*mnist.npz; set data.path=FOLDER to download it there$"
    ):
        read_digits(tmp_path / "mnist.npz")


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.MNIST", no_network)
    with pytest.raises(
        FileNotFoundError, match=r"and the download failed \(no network\); put mnist.npz or the four idx"
    ):
        read_digits(tmp_path)


@pytest.mark.parametrize("damage", ["truncate", "header", "arrays"])
def test_damaged_digits_are_refused(digits, tmp_path, damage):
    few = Digits(*(array[:10] for array in digits))
    if damage == "arrays":
        np.savez(tmp_path / "mnist.npz", x_train=few.train_images)
        with pytest.raises(
            ValueError, match=r"mnist.npz cannot be read \(it has no array 'y_train'; it has x_train\)$"
        ):
            read_digits(tmp_path)
        return
    write_idx(tmp_path / "raw", few)
    path = tmp_path / "raw" / "train-images-idx3-ubyte"
    data = path.read_bytes()
    path.write_bytes(data[:-5] if damage == "truncate" else b"\1" + data[1:])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte is not an idx file of bytes"):
        read_digits(tmp_path)


@pytest.fixture(scope="module")
def store(folder, tmp_path_factory):
    source = MnistBags(folder, num_train_bags=60, num_val_bags=10, num_test_bags=300)
    return open_or_build(source, tmp_path_factory.mktemp("stores"))


def test_a_bag_is_positive_if_and_only_if_it_holds_a_nine(store):
    for index, label in enumerate(store.bags["label"]):
        own = store.tile_labels[store.tile_slice(index)]
        assert label == int(own.any())
    assert ((store.tiles_table["digit"] == 9) == (store.tile_labels == 1)).all()


def test_positive_and_negative_bags_take_turns_in_each_split(store):
    for _, part in store.bags.groupby("split"):
        assert part["label"].tolist() == [1, 0] * (len(part) // 2)
    assert store.bags["split"].value_counts().to_dict() == {"test": 300, "train": 60, "val": 10}


def test_lengths_are_those_of_the_generator(store):
    """Cutting to a whole number takes half a digit off a mean of 10; a nine needs to be in every other bag."""
    negative = store.num_tiles[(store.bags["label"] == 0).to_numpy()]
    assert abs(negative.mean() - 9.5) < 0.5
    assert abs(negative.std() - 2) < 0.4
    assert store.tile_shape == (28, 28, 1)


def test_test_bags_are_made_of_test_digits_alone(store, digits):
    def hashes(images):
        return {image.tobytes() for image in np.asarray(images)}

    test_digits = hashes(digits.test_images)
    first = int(store.bags.loc[store.bags["split"] == "test", "start"].min())
    assert hashes(store.tiles[first:]) <= test_digits
    assert not hashes(store.tiles[:first]) & test_digits


def test_test_bags_do_not_depend_on_the_number_of_training_bags(store, folder, tmp_path):
    source = MnistBags(folder, num_train_bags=4, num_test_bags=20)
    other = open_or_build(source, tmp_path)
    first = int(store.bags.loc[store.bags["split"] == "test", "start"].min())
    start = int(other.bags.loc[other.bags["split"] == "test", "start"].min())
    np.testing.assert_array_equal(other.tiles[start:], store.tiles[first : first + len(other.tiles) - start])


def test_long_and_short_bags_can_be_drawn(folder, tmp_path):
    source = MnistBags(folder, mean_bag_length=1, bag_length_std=5, num_train_bags=40, num_test_bags=2)
    assert open_or_build(source, tmp_path).num_tiles.min() == 1


def test_one_npz_or_its_folder_are_the_same(folder, tmp_path):
    shutil.copy(folder / "mnist.npz", tmp_path)
    one, other = (MnistBags(path).describe() for path in (tmp_path, tmp_path / "mnist.npz"))
    assert one == other
