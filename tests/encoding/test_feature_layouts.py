"""Files of features as TRIDENT, CLAM and STAMP read them, checked with rules written from their readers."""

import json

import h5py
import numpy as np
import openslide
import pytest
import torch
from torch import nn

from milpath.data.sources.features.feature_files import read_features
from milpath.data.store.bag_store import BagStore
from milpath.encoding.extract_features import extract_features
from milpath.slides.tiling_options import TileOptions
from tests.mirax import write_mirax
from tests.pyramids import tissue, write_pyramid

CARD = {"name": "drawn", "embedding_dim": 3, "tile_size": 32, "microns_per_pixel": 1.0, "weights_sha256": "0" * 64}


class MeanColour(nn.Module):
    """The mean colour of a tile: a feature that says where a tile comes from."""

    def forward(self, tiles):
        return tiles.mean((2, 3))


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts")
    write_pyramid(folder / "slides/pyramid.tiff", tissue(100, 90, 1), factors=(4, 2, 1))
    write_mirax(folder / "slides/scan, 2.mrxs", tissue(64, 96, seed=5).repeat(8, 0).repeat(8, 1), offset=(2, 1))
    options = TileOptions(method="tissue", num_tiles=None, tile_size=32, microns_per_pixel=1.0)
    words = {"formats": ["store", "h5", "stamp"], "device": "cpu"}
    extract_features(folder / "slides", folder / "out", MeanColour(), CARD, options, **words)
    return folder


def trident(path):
    """Read as TRIDENT does: `read_coords`, then what its slide encoders take from the attributes."""
    with h5py.File(path, "r") as file:
        attributes, coords, features = dict(file["coords"].attrs), file["coords"][:], file["features"][:]
        encoder = file["features"].attrs["encoder"]
    assert features.ndim == 2
    assert coords.shape == (len(features), 2)
    assert np.issubdtype(coords.dtype, np.integer)
    assert int(attributes["patch_size_level0"]) > 0
    for name in ("patch_size", "level0_magnification", "target_magnification", "overlap", "name"):
        assert name in attributes
    return features, coords, attributes, encoder


def clam(folder, slide):
    """Read as CLAM does with `use_h5`: both datasets by name."""
    with h5py.File(folder / f"{slide}.h5", "r") as file:
        return torch.from_numpy(file["features"][:]), file["coords"][:]


def stamp(path):
    """Read as STAMP does: `feats`, and coordinates in microns of a file that says its unit and tile size."""
    with h5py.File(path, "r") as file:
        assert file.attrs.get("feat_type") == "tile"
        features = torch.from_numpy(file["feats"][()]).float()
        size = float(file.attrs["tile_size_um"])
        assert "tile_size" not in file.attrs
        pixels = int(file.attrs["tile_size_px"])
        return features, torch.from_numpy(file["coords"][:]).float(), size, size / pixels


@pytest.mark.parametrize("slide", ["pyramid", "scan, 2"])
def test_trident_and_clam_find_each_feature_at_its_tile_of_level_0(extracted, slide):
    features, coords, attributes, encoder = trident(extracted / f"out/h5/{slide}.h5")
    assert (encoder, attributes["patch_size"], attributes["overlap"], attributes["name"]) == ("drawn", 32, 0, slide)
    # 0.5 microns per pixel on level 0: 20x, and tiles at 10x.
    assert (attributes["level0_magnification"], attributes["target_magnification"]) == (20, 10)
    assert attributes["patch_size_level0"] == 64
    path = next((extracted / "slides").glob(f"{slide}.*"))
    with openslide.OpenSlide(path) as opened:
        for row, corner in zip(features, coords.tolist(), strict=True):
            region = np.asarray(opened.read_region(corner, 0, (64, 64))).astype(float)
            colour = np.where(region[..., 3:] > 0, region[..., :3], 255).mean((0, 1)) / 255
            np.testing.assert_allclose(row, colour, atol=0.02)
    of_clam, coords_of_clam = clam(extracted / "out/h5", slide)
    np.testing.assert_array_equal(of_clam.numpy(), features)
    np.testing.assert_array_equal(coords_of_clam, coords)


@pytest.mark.parametrize("slide", ["pyramid", "scan, 2"])
def test_stamp_finds_each_feature_in_microns(extracted, slide):
    features, coords, size, microns = stamp(extracted / f"out/stamp/{slide}.h5")
    of_trident, pixels, *_ = trident(extracted / f"out/h5/{slide}.h5")
    np.testing.assert_array_equal(features.numpy(), of_trident)
    np.testing.assert_allclose(coords, pixels * 0.5)
    assert (size, microns) == (32.0, 1.0)


def test_the_files_are_read_back_as_features_of_their_store(extracted):
    store = BagStore.open(extracted / "out")
    for index, slide in enumerate(store.bags["bag_id"]):
        for kind in ("h5", "stamp"):
            np.testing.assert_array_equal(
                read_features(extracted / f"out/{kind}/{slide}.h5").features, store.read(index)
            )


def test_files_that_were_lost_are_written_again_with_the_same_bytes(extracted):
    path = extracted / "out/h5/pyramid.h5"
    before = path.read_bytes()
    path.unlink()
    (extracted / "out/h5/.pyramid.h5.1.00000000.partial").touch()
    options = TileOptions(**json.loads((extracted / "out/store.json").read_text())["tiling"])
    words = {"formats": ["store", "h5"], "device": "cpu"}
    summary = extract_features(extracted / "slides", extracted / "out", MeanColour(), CARD, options, **words)
    assert summary.num_cut == 0
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {"pyramid.h5", "scan, 2.h5"}


def test_a_file_that_another_store_left_is_written_again(extracted):
    path = extracted / "out/h5/pyramid.h5"
    before = path.read_bytes()
    options = TileOptions(**json.loads((extracted / "out/store.json").read_text())["tiling"])
    for left in (b"no HDF5", None):
        if left is None:
            with h5py.File(path, "r+") as file:
                file.attrs["milpath_store_sha256"] = "0" * 64
                file["features"][:] = 0
        else:
            path.write_bytes(left)
        words = {"formats": ["store", "h5"], "device": "cpu"}
        extract_features(extracted / "slides", extracted / "out", MeanColour(), CARD, options, **words)
        assert path.read_bytes() == before
