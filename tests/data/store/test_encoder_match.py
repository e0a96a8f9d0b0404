import logging

import numpy as np
import pytest
from torch import nn

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.encoder_match import encoder_of, require_same_encoder
from milpath.models.card import Card

CARD = {"name": "uni2_h", "weights_sha256": "a" * 64, "embedding_dim": 4, "output": "class_token", "tile_size": 224}
TILING = {"method": "tissue", "tile_size": 224, "microns_per_pixel": 0.5}


def store_of(folder, encoder=None, tiling=None, width=4):
    extra = {} if encoder is None else {"encoder": encoder}
    with BagStoreWriter(folder / "store", extra=extra | ({} if tiling is None else {"tiling": tiling})) as writer:
        writer.add("a", np.zeros((2, width), np.float32), {"label": 0})
    return BagStore.open(folder / "store")


def compare(folder, trained, found, trained_tiling=TILING, found_tiling=TILING, width=4):
    card = Card({}, ("a", "b"), "binary", tiling=trained_tiling, encoder=trained)
    require_same_encoder(card, nn.Identity(), store_of(folder, found, found_tiling, width), "in", "net.pt")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("uni2_h", "uni_v2"), ("uni2_h", "uni2"), ("uni", "uni_v1"), ("conch", "conch_v1"), ("conch_v1_5", "conch_v15"),
        ("conch_v1_5", "conch1_5"), ("h_optimus_0", "hoptimus0"), ("h_optimus_1", "h-optimus-1"), ("h0_mini", "h0-mini"),
        ("prov_gigapath", "gigapath"), ("virchow", "virchow-full"), ("kaiko_vits8", "kaiko-vits8"),
        ("midnight", "midnight12k"), ("phikon_v2", "phikon_v2"), ("lunit_vits8", "lunit-vits8"), ("hibou_l", "hibou_l"),
    ],
)  # fmt: skip
def test_an_encoder_has_one_identity_under_the_names_of_three_programs(one, other, tmp_path):
    compare(tmp_path, CARD | {"name": one}, CARD | {"name": other})


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"name": "uni"}, "name"),
        ({"weights_sha256": "b" * 64}, "weights_sha256"),
        ({"output": "pooled"}, "output"),
        ({"name": "conch", "output": "pooled"}, "name, output"),
    ],
)
def test_every_difference_is_named(change, differing, tmp_path):
    with pytest.raises(ValueError, match=f"they differ in {differing}: give features of the same encoder"):
        compare(tmp_path, CARD, CARD | change)


def test_tiles_count_as_they_were_cut(tmp_path):
    """The card says what the authors of the encoder advise; the tiling says what was done."""
    with pytest.raises(
        ValueError, match="tiles of 512 px.*trained on features of .*tiles of 224 px.*differ in tile_size:"
    ):
        compare(tmp_path, CARD, CARD, found_tiling=TILING | {"tile_size": 512})
    with pytest.raises(ValueError, match=r"1 microns per pixel.*0\.5 microns per pixel.*differ in microns_per_pixel:"):
        compare(tmp_path / "other", CARD, CARD, found_tiling=TILING | {"microns_per_pixel": 1.0})


def test_a_magnification_is_less_exact_than_a_resolution(tmp_path):
    scanned = TILING | {"microns_per_pixel": 0.44}
    compare(tmp_path, CARD | {"magnification": 20}, CARD, found_tiling=scanned)
    with pytest.raises(ValueError, match="differ in microns_per_pixel"):
        compare(tmp_path / "measured", CARD, CARD, found_tiling=scanned)
    with pytest.raises(ValueError, match="differ in microns_per_pixel"):
        compare(tmp_path / "10x", CARD | {"magnification": 20}, CARD, found_tiling=TILING | {"microns_per_pixel": 1.0})


def test_a_resolution_that_was_not_recorded_is_not_the_one_that_the_authors_advise(tmp_path, caplog):
    advised = CARD | {"microns_per_pixel": 0.5}
    with caplog.at_level(logging.INFO, logger="milpath"):
        compare(tmp_path, advised, advised, found_tiling=TILING | {"microns_per_pixel": None})
    assert "microns_per_pixel of the features cannot be compared" in caplog.text


def test_a_width_is_always_compared(tmp_path):
    with pytest.raises(
        ValueError, match=r"features of an encoder without a name \(6 values, .*differ in embedding_dim"
    ):
        compare(tmp_path, CARD, None, width=6)


def test_what_only_one_says_is_said(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="milpath"):
        compare(tmp_path, CARD, None, found_tiling=None)
    assert "name, tile_size, microns_per_pixel of the features cannot be compared" in caplog.text


def test_a_hostile_name_is_printed_on_one_line(tmp_path):
    with pytest.raises(ValueError, match="differ in name") as error:
        compare(tmp_path, CARD, CARD | {"name": "x\n\x1b[2J" + "y" * 5000})
    assert len(str(error.value)) < 600
    assert str(error.value).isprintable()


def test_a_store_of_tiles_has_no_encoder(tmp_path):
    with BagStoreWriter(tmp_path / "store", extra={"encoder": CARD}) as writer:
        writer.add("a", np.zeros((2, 4, 4, 3), np.uint8), {"label": 0})
    assert encoder_of(BagStore.open(tmp_path / "store")) == {}
