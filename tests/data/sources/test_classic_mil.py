import re
import zipfile

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import coo_matrix, csr_matrix

from milpath.data.sources import npz_file
from milpath.data.sources.classic_mil import ClassicMIL, read_instances
from milpath.data.store.store_build import open_or_build


@pytest.mark.parametrize(
    ("name", "bags", "positive", "instances", "features", "lengths"),
    [
        ("musk1", 92, 47, 476, 166, (2, 40)),
        ("fox", 200, 100, 1320, 230, (2, 13)),
        ("tiger", 200, 100, 1220, 230, (1, 13)),
    ],
)
def test_the_published_sets_have_their_published_counts(
    shared_data, tmp_path, name, bags, positive, instances, features, lengths
):
    store = open_or_build(ClassicMIL(shared_data / "mil_classic", name), tmp_path)
    assert len(store) == bags
    assert store.bags["label"].sum() == positive
    assert store.tiles.shape == (instances, features)
    assert (store.num_tiles.min(), store.num_tiles.max()) == lengths


@pytest.fixture
def instances():
    """Three bags in the shape of MUSK2's hardest: one of 1 instance, one of 1,044."""
    rng = np.random.default_rng(0)
    lengths = [3, 1, 1044]
    features = np.round(rng.normal(0, 100, (sum(lengths), 6)))
    features[rng.random(features.shape) < 0.3] = 0
    features[:, 2] = 7
    return features, np.repeat(np.arange(3), lengths), np.array([1, 0, 1])


def write_uci(path, features, bags, labels):
    names = ["MUSK-211", "NON-MUSK-j129", "MUSK-f152"]
    lines = [
        f"{names[bag]},{row}_1+{row},{','.join(str(int(value)) for value in values)},{labels[bag]}."
        for row, (values, bag) in enumerate(zip(features, bags, strict=True))
    ]
    path.write_text("\n".join(lines) + "\n")


def write_svm(path, features, bags, labels):
    lines = ["# instance_id:bag_id:label feature_id:value ..."]
    for row, (values, bag) in enumerate(zip(features, bags, strict=True)):
        pairs = [f"{column + 1}:{value:g}" for column, value in enumerate(values) if value]
        lines.append(" ".join([f"{row + 1}:{bag + 1}:{1 if labels[bag] else -1}", *pairs]))
    path.write_text("\n".join(lines) + "\n")


def write_mat(path, features, bags, labels):
    signs = np.where(labels[bags] > 0, 1, -1)[None].astype(float)
    savemat(path, {"features": csr_matrix(features), "bag_ids": bags[None] + 1, "labels": csr_matrix(signs)})


def write_npz(path, features, bags, labels):
    np.savez(path, X=features, bag=bags, y=labels)


@pytest.mark.parametrize(
    ("file", "name", "write"),
    [
        ("clean2.data", "musk2", write_uci),
        ("musk2.npz", "musk2", write_npz),
        ("musk2norm.svm", "musk2", write_svm),
        ("elephant_100x100_matlab.mat", "elephant", write_mat),
        ("Elephant/data_100x100.svm", "elephant", write_svm),
    ],
)
def test_every_published_format_gives_the_same_bags(tmp_path, instances, file, name, write):
    path = tmp_path / "data" / file
    path.parent.mkdir(parents=True)
    write(path, *instances)
    features, _bags, labels = instances
    for place in (tmp_path / "data", path):
        store = open_or_build(ClassicMIL(place, name), tmp_path / "stores")
        assert store.num_tiles.tolist() == [3, 1, 1044]
        assert store.bags["label"].tolist() == labels.tolist()
        np.testing.assert_array_equal(store.tiles, features.astype(np.float32))


def test_musk_bags_are_called_after_their_molecule(tmp_path, instances):
    write_uci(tmp_path / "clean1.data", *instances)
    store = open_or_build(ClassicMIL(tmp_path, "musk1"), tmp_path / "stores")
    assert store.bags["bag_id"].tolist() == ["MUSK-211", "NON-MUSK-j129", "MUSK-f152"]


def test_instances_of_a_bag_need_not_stand_together(tmp_path, instances):
    features, bags, labels = instances
    order = np.random.default_rng(1).permutation(len(bags))
    write_svm(tmp_path / "fox.svm", features[order], bags[order], labels)
    store = open_or_build(ClassicMIL(tmp_path, "fox"), tmp_path / "stores")
    assert sorted(store.num_tiles) == [1, 3, 1044]


def test_fox_is_not_taken_for_tiger(tmp_path, instances):
    (tmp_path / "Fox").mkdir()
    write_svm(tmp_path / "Fox" / "data_100x100.svm", *instances)
    assert len(open_or_build(ClassicMIL(tmp_path, "fox"), tmp_path / "stores")) == 3
    with pytest.raises(FileNotFoundError, match="no tiger at"):
        ClassicMIL(tmp_path, "tiger").describe()


def test_nothing_at_the_path_names_the_files_that_would_do(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        ClassicMIL(tmp_path, "musk1").describe()
    assert str(error.value) == (
        f"no musk1 at {tmp_path}; set data.path=FILE_OR_FOLDER with one of "
        "musk1.npz, clean1.data, musk1.data, musk1norm.svm, musk1norm_matlab.mat"
    )


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"^data.name is 'zebra'; it must be one of musk1, musk2, fox, tiger, elephant$"
    ):
        ClassicMIL(tmp_path, "zebra")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "clean1.data",
            b"MUSK-1,1_1,3,four,1.\n",
            "cannot be read as a classic MIL set in data format (could not convert",
        ),
        (
            "musk1norm.svm",
            b"1:1 1:2\n",
            "cannot be read as a classic MIL set in svm format (not enough values to unpack",
        ),
        (
            "musk1norm.svm",
            b"1:1:1 99999999:2\n",
            "cannot be read as a classic MIL set in svm format (feature numbers go up to 99999999)",
        ),
        ("musk1norm_matlab.mat", b"nonsense", "cannot be read as a classic MIL set in mat format"),
        ("musk1.npz", b"nonsense", "cannot be read as a classic MIL set in npz format"),
    ],
)
def test_a_file_of_another_kind_is_one_line(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / file} {message}")):
        open_or_build(ClassicMIL(tmp_path, "musk1"), tmp_path / "stores")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_named_with_bag_and_column(tmp_path, instances, value):
    features, bags, labels = instances
    features[5, 4] = value
    write_npz(tmp_path / "musk2.npz", features, bags, labels)
    with pytest.raises(
        ValueError, match=rf"^bag 'musk2_002' in .*musk2.npz has {value} in column 4 \(row 1\); features must"
    ):
        open_or_build(ClassicMIL(tmp_path, "musk2"), tmp_path / "stores")


def test_pickled_arrays_are_never_loaded(tmp_path, instances):
    features, bags, labels = instances
    np.savez(tmp_path / "musk1.npz", X=features.astype(object), bag=bags, y=labels)
    with pytest.raises(ValueError, match="it holds Python objects, which are never loaded"):
        open_or_build(ClassicMIL(tmp_path, "musk1"), tmp_path / "stores")


@pytest.mark.parametrize(
    ("first", "message"),
    [(1, "bag 0 has no instance; expected bags 0..2"), (-1, "bag -1 has no label; expected bags 0..2")],
)
def test_a_bag_without_an_instance_or_a_label_is_named(tmp_path, instances, first, message):
    features, bags, labels = instances
    bags[:3] = first
    write_npz(tmp_path / "musk1.npz", features, bags, labels)
    with pytest.raises(ValueError, match=re.escape(message)):
        open_or_build(ClassicMIL(tmp_path, "musk1"), tmp_path / "stores")


def test_a_value_that_is_too_large_is_one_line_without_a_warning(tmp_path, instances):
    features, bags, labels = instances
    features[5, 4] = 1e200
    write_npz(tmp_path / "musk1.npz", features, bags, labels)
    with pytest.raises(ValueError, match="in column 4 .* must be finite numbers of float32"):
        open_or_build(ClassicMIL(tmp_path, "musk1"), tmp_path / "stores")


def npy(shape: str, values: bytes = b"", kind: str = "<f8") -> bytes:
    """Return an npy file that states any shape."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (npy("(1000000000000, 3)"), "cannot be read as a classic MIL set in npz format ("),
        (npy("(200000,)", bytes(1_600_000)), "in npz format (it unpacks to 2 MB, more than 1 MB)"),
        (npy("()", bytes(8)), "are (), expected (instances, features)"),
        (npy("(1,)", bytes(8)), "are (1,), expected (instances, features)"),
    ],
)
def test_features_that_a_file_only_states_are_refused_in_one_line(tmp_path, features, message, monkeypatch):
    monkeypatch.setattr(npz_file, "MAX_UNPACKED", 1_000_000)
    path, one = tmp_path / "musk1.npz", npy("(1,)", bytes(8), "<i8")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("X", features), ("bag", one), ("y", one)):
            with archive.open(f"{name}.npy", "w") as file:
                file.write(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        open_or_build(ClassicMIL(path, "musk1"), tmp_path / "stores")


def test_a_matrix_of_few_values_is_not_made_a_large_array(tmp_path):
    many = coo_matrix(([1.0], ([0], [0])), shape=(200_000, 200_000))
    savemat(tmp_path / "fox.mat", {"features": many, "bag_ids": np.zeros((1, 1)), "labels": np.ones((1, 1))})
    (tmp_path / "fox.svm").write_text("\n".join(f"{row}:{row}:1 999999:1" for row in range(200)))
    for path in (tmp_path / "fox.mat", tmp_path / "fox.svm"):
        with pytest.raises(ValueError, match="more than such a set can have"):
            open_or_build(ClassicMIL(path, "fox"), tmp_path / "stores")


def test_a_single_array_is_no_archive_of_arrays(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((2, 3)))
    path = (tmp_path / "one.npy").rename(tmp_path / "musk1.npz")
    with pytest.raises(ValueError, match="cannot be read as a classic MIL set in npz format"):
        open_or_build(ClassicMIL(path, "musk1"), tmp_path / "stores")


def test_a_matlab_file_whose_compressed_bytes_were_changed_is_one_line(tmp_path):
    path = tmp_path / "fox.mat"
    savemat(path, {"features": np.ones((9, 3)), "bag_ids": np.arange(9), "labels": np.ones(9)}, do_compression=True)
    content = bytearray(path.read_bytes())
    content[136] ^= 0xFF  # the first byte that zlib reads
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"fox\.mat cannot be read as a classic MIL set in mat format \(Error -3"):
        read_instances(path)
