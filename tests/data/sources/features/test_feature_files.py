"""Tensors in `.pt` files of features: what numpy reads, what it does not, and what no slide has."""

import h5py
import numpy as np
import pytest
import torch

from milpath.data.sources.features.feature_files import read_features, read_origin

FEATURES = torch.arange(10.0).reshape(5, 2)
KINDS = {
    "gradient": FEATURES.clone().requires_grad_(),
    "parameter": torch.nn.Parameter(FEATURES),
    "negated": torch._neg_view(-FEATURES),
    "bfloat16": FEATURES.bfloat16(),
    "float8": FEATURES.to(torch.float8_e4m3fn),
}
OTHERS = {
    "sparse": FEATURES.to_sparse(),
    "without values": FEATURES.to("meta"),
    "expanded": torch.ones(1, 2).expand(1 << 20, 2),
    "complex": FEATURES.to(torch.complex64).conj(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_features_saved_with_a_gradient_or_in_other_floats_are_read(kind, tmp_path):
    places = torch.arange(10.0).reshape(5, 2).requires_grad_()
    torch.save({"features": KINDS[kind], "coords": places}, tmp_path / "a.pt")
    slide = read_features(tmp_path / "a.pt")
    np.testing.assert_array_equal(slide.features, KINDS[kind].detach().resolve_neg().float().numpy())
    np.testing.assert_array_equal(slide.coords, np.arange(10).reshape(5, 2))


@pytest.mark.parametrize("kind", OTHERS)
def test_tensors_that_are_no_features_are_refused_in_one_line(kind, tmp_path):
    torch.save(OTHERS[kind], tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"features in .*a\.pt are") as caught:
        read_features(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


def test_a_file_that_states_sizes_without_values_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", (1 << 20, 1 << 10), "f4")
    assert (tmp_path / "a.h5").stat().st_size < 10_000
    with pytest.raises(ValueError, match="holds no values"):
        read_features(tmp_path / "a.h5")


def test_an_array_that_was_saved_like_a_tensor_says_how_to_save_it(tmp_path):
    """As TRIDENT writes features with saveas='pt'."""
    torch.save(FEATURES.numpy(), tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"a.pt holds a numpy array, which only code can read, .*saveas='h5' of TRIDENT"
    ):
        read_features(tmp_path / "a.pt")


def test_features_of_a_whole_slide_ask_for_those_of_tiles(tmp_path):
    """As TRIDENT writes them into slide_features_NAME."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"], file["coords"] = np.ones(768, np.float32), np.ones((30, 2), np.int64)
    with pytest.raises(ValueError, match="one row of 768 for the whole slide; give those of its tiles"):
        read_features(tmp_path / "a.h5")


LARGE = {
    "features of which a chunk is stored": {"features": ((1 << 20, 1 << 10), "f8"), "coords": ((4, 2), "i8")},
    "coords of more tiles": {"features": ((4, 8), "f4"), "coords": ((4 * 10**9, 2), "i8")},
    "texts": {"features": ((1 << 20, 1 << 10), "S100")},
    "arrays": {"features": ((1 << 20, 1 << 10), np.dtype(("f4", (1000,))))},
}


@pytest.mark.parametrize("kind", LARGE)
def test_no_memory_is_taken_for_values_that_a_file_only_states(kind, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, (shape, dtype) in LARGE[kind].items():
            dataset = file.create_dataset(name, shape, dtype, chunks=(4, shape[1]), compression="gzip")
            dataset[:4] = np.zeros((4, *dataset.shape[1:]), dtype)
    assert (tmp_path / "a.h5").stat().st_size < 1_000_000
    with pytest.raises(ValueError, match=r"holds no values|more than the features|expected numbers"):
        read_features(tmp_path / "a.h5")
    assert read_origin(tmp_path / "a.h5") is None


def test_a_chunk_that_is_larger_than_its_features_is_read_unless_it_fills_the_memory(tmp_path):
    features = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    for name, rows in (("a.h5", 1000), ("b.h5", 1 << 26)):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("features", (4, 8), "f4", chunks=(rows, 8), maxshape=(None, 8), fillvalue=1.0)
            if name == "a.h5":
                file["features"][:] = features
            else:
                # Stored without the memory of the chunk: a few bytes that would be unpacked to it.
                file["features"].id.write_direct_chunk((0, 0), bytes(8))
    assert np.array_equal(read_features(tmp_path / "a.h5").features, features)
    with pytest.raises(ValueError, match="holds no values"):
        read_features(tmp_path / "b.h5")
