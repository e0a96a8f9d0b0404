"""Tensors in `.pt` files of features: what numpy reads, what it does not, and what no slide has."""

import h5py
import numpy as np
import pytest
import torch

from milpath.data.sources.features.feature_files import read_features

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
