"""The card of the encoder in files of features, which may come from somebody else."""

import json

import h5py
import numpy as np
import pytest

from milpath.data.sources.features.encoder_in_file import ATTRIBUTE
from milpath.data.sources.features.feature_bags import FeatureBags
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.encoder_match import encoder_of
from milpath.data.store.store_build import open_or_build
from milpath.encoding.feature_layouts import write_layouts
from milpath.models.encoders import encoder_card
from milpath.slides.tiling_options import TileOptions
from tests.feature_files import write_trident

TILING = TileOptions(method="tissue", num_tiles=None, tile_size=256, microns_per_pixel=0.5).to_tiling()
CARD = encoder_card("efficientnet_lite0").to_dict() | {"weights_sha256": "a" * 64, "precision": "bf16-mixed"}


@pytest.fixture
def extracted(tmp_path):
    """The files of an extraction of two slides, and its store."""
    rng = np.random.default_rng(0)
    places = {name: np.arange(4) * 512 for name in ("x0", "y0")} | {"size0": np.full(4, 512)}
    extra = {"encoder": CARD, "tiling": TILING, "microns_per_pixel": 0.5, "downsample": 2.0}
    with BagStoreWriter(tmp_path / "store", extra=extra) as writer:
        for name in "ab":
            writer.add(name, rng.normal(size=(4, 1280)).astype(np.float16), {"label": 0}, places)
    store = BagStore.open(tmp_path / "store")
    write_layouts(store, tmp_path, ["h5", "stamp"])
    (tmp_path / "labels.csv").write_text("slide_id,label\na,0\nb,1\n")
    return store


def build(tmp_path, form="h5", **words):
    return open_or_build(FeatureBags(tmp_path / form, tmp_path / "labels.csv", **words), tmp_path / "stores")


@pytest.mark.parametrize("form", ["h5", "stamp"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_files_of_an_extraction_say_of_their_encoder_what_its_store_says(extracted, tmp_path, form, dtype):
    store = build(tmp_path, form, dtype=dtype)
    # Also in single precision they are the numbers of half precision: slides are encoded into that.
    assert encoder_of(store) == encoder_of(extracted) == CARD | {"dtype": "float16"}
    assert TileOptions.from_tiling(store.description["tiling"]) == TileOptions.from_tiling(TILING)
    np.testing.assert_array_equal(store.tiles[:], extracted.tiles[:])


def change(tmp_path, content):
    for name in "ab":
        with h5py.File(tmp_path / f"h5/{name}.h5", "r+") as file:
            del file.attrs[ATTRIBUTE]
            file.attrs[ATTRIBUTE] = content if not isinstance(content, dict) else np.bytes_(json.dumps(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a text of variable length", "is not a text of at most 60,000 bytes"),
        (np.bytes_("{"), "is not JSON"),
        (np.bytes_("[" * 50_000), "is not JSON"),
        (np.bytes_('{"encoder": {"depth": NaN}}'), "not finite|NaN|nan"),
        ({"encoder": {"name": "uni"}}, "the card of the encoder lacks library"),
        ({"encoder": "uni"}, "has no encoder"),
        ({"encoder": CARD | {"dtype": "float16", "_target_": "os.system"}}, "_target_"),
        ({"encoder": CARD | {"dtype": "float16", "arguments": {"pretrained_cfg": "file"}}}, "arguments"),
        ({"encoder": CARD | {"dtype": "float16", "name": "../../weights"}}, "letters, digits"),
        (
            {"encoder": CARD | {"dtype": "float16", "embedding_dim": 2}},
            "but the card in its attribute milpath is that of",
        ),
        ({"encoder": CARD | {"dtype": "int8"}}, "dtype of the features is 'int8'"),
        ({"encoder": CARD | {"dtype": "float16"}, "tiling": {"method": "exec"}}, "cannot cut slides"),
        ({"encoder": CARD | {"dtype": "float16"}, "tiling": TILING | {"tile_size": 1 << 40}}, "tile_size"),
        ({"encoder": CARD | {"dtype": "float16"}, "tiling": [1]}, "milpath"),
    ],
)
def test_a_card_that_is_not_sound_is_refused_with_its_file(extracted, tmp_path, content, message):
    change(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        build(tmp_path)
    assert "a.h5" in str(caught.value)


def test_files_of_two_encoders_or_weights_are_refused_with_both_cards(extracted, tmp_path):
    with h5py.File(tmp_path / "h5/b.h5", "r+") as file:
        content = json.loads(bytes(file.attrs[ATTRIBUTE]))
        content["encoder"]["weights_sha256"] = "b" * 64
        file.attrs[ATTRIBUTE] = np.bytes_(json.dumps(content))
    with pytest.raises(ValueError, match="more than one extraction.*weights b{12}.*weights a{12}"):
        build(tmp_path)


def trident(tmp_path, **changes):
    rng = np.random.default_rng(0)
    for name in "ab":
        features = rng.normal(size=(4, 1536)).astype(np.float32)
        write_trident(tmp_path / f"h5/{name}.h5", features, rng.integers(0, 9999, (4, 2)), overlap=16, **changes)
    (tmp_path / "labels.csv").write_text("slide_id,label\na,0\nb,1\n")


def test_the_user_states_the_encoder_of_files_without_a_card(tmp_path, caplog):
    trident(tmp_path)
    plain = build(tmp_path)
    assert "architecture" not in encoder_of(plain)
    caplog.set_level("INFO")
    store = build(tmp_path, encoder="uni2_h")
    assert store.path != plain.path
    assert encoder_of(store) == encoder_card("uni2_h").to_dict() | {"dtype": "float32"}
    options = TileOptions.from_tiling(store.description["tiling"])
    assert (options.tile_size, options.microns_per_pixel, options.overlap) == (256, 0.5, 16)
    assert "not exactly those of the files" in caplog.text


@pytest.mark.parametrize(
    ("encoder", "said", "message"),
    [
        ("uni", "uni_v2", "encoder=uni was stated, but the files in .* say uni_v2"),
        ("uni", None, "gives 1024 features, but the files in .* have 1536"),
        ("uni3", None, "unknown encoder 'uni3'; did you mean uni"),
    ],
)
def test_a_stated_encoder_that_does_not_fit_is_refused(tmp_path, encoder, said, message):
    trident(tmp_path, encoder=said)
    with pytest.raises(ValueError, match=message):
        build(tmp_path, encoder=encoder)
