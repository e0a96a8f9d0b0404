"""Stain normalisation in an extraction: each slide by its own sample, whatever its batches are, and never forgotten."""

import re

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from milpath.data.store.bag_store import BagStore
from milpath.data.store.encoded_store import open_or_encode
from milpath.data.store.encoder_match import encoder_of, require_same_encoder
from milpath.encoding.extract_features import extract_features
from milpath.models import AttentionMIL
from milpath.models.card import Card
from milpath.models.encoders import open_encoder
from milpath.models.encoders.encoder_card import EncoderCard
from milpath.models.encoders.trained_encoder import TrainedEncoder, open_trained_encoder
from milpath.runs.chosen_parts.build_encoder import build_encoder
from milpath.slides.cut_slide import cut_slide
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from tests.models.stains.drawn_stains import stained
from tests.pyramids import write_pyramid

TARGET = {"haematoxylin": [0.65, 0.7, 0.2958], "eosin": [0.0995, 0.9897, 0.1027], "amounts": [1.5, 1.0]}
REINHARD = {"mean": [65.0, 25.0, -15.0], "std": [12.0, 9.0, 6.0]}
OPTIONS = TileOptions(method="tissue", num_tiles=None, tile_size=32, microns_per_pixel=1.0)
# Haematoxylin, eosin and their amounts of each slide; the last has too few stained pixels to say anything.
SLIDES = {
    "blue": ((0.72, 0.62, 0.31), (0.10, 0.95, 0.20), (1.4, 0.7)),
    "pale": ((0.65, 0.70, 0.29), (0.16, 0.92, 0.35), (0.9, 0.6)),
    "red": ((0.55, 0.78, 0.29), (0.07, 0.98, 0.11), (1.0, 1.3)),
}


class Conv(nn.Module):
    """A small encoder with seeded weights that sees colours."""

    takes = "tiles"
    embedding_dim = 6

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, tiles):
        return self.layers(tiles)


def encoder_with(method: str = "none"):
    spec = {"name": Conv, "tile_size": 32, "microns_per_pixel": 1.0}
    target = {"macenko": TARGET, "reinhard": REINHARD}.get(method)
    return open_encoder(spec if target is None else spec | {"stain_normalisation": method, "stain_target": target})


def extract(slides, output, encoder, **words):
    words = {"device": "cpu", "batch_size": 5, "dtype": "float32"} | words
    return extract_features(slides, output, encoder, encoder.card.to_dict(), words.pop("options", OPTIONS), **words)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stained slides")
    for seed, (name, (haematoxylin, eosin, amounts)) in enumerate(SLIDES.items()):
        drawn = stained(1, 1, 96, haematoxylin=haematoxylin, eosin=eosin, amounts=amounts, seed=seed, least=0.2)
        canvas = np.full((160, 140, 3), 243, np.uint8)
        canvas[30:126, 20:116] = (drawn[0, 0].permute(1, 2, 0) * 243).round().byte().numpy()
        write_pyramid(folder / f"{name}.tiff", canvas)
    return folder


@pytest.fixture(scope="module")
def normalised(slides, tmp_path_factory):
    output = tmp_path_factory.mktemp("normalised") / "out"
    summary = extract(slides, output, encoder_with("macenko"))
    assert not any("stains" in note for note in summary.notes)
    return output


@pytest.fixture(scope="module")
def tiles(slides, tmp_path_factory):
    output = tmp_path_factory.mktemp("tiles") / "out"
    build_slide_store(slides, output, OPTIONS, num_workers=1, write_png=True)
    return output


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_every_slide_is_normalised_as_its_whole_bag_at_once(method, slides, normalised, tmp_path):
    encoder, plain = encoder_with(method), encoder_with()
    output = normalised if method == "macenko" else tmp_path / "out"
    if method != "macenko":
        extract(slides, output, encoder)
    store = BagStore.open(output)
    for index, name in enumerate(sorted(SLIDES)):
        bag = torch.from_numpy(cut_slide(slides / f"{name}.tiff", OPTIONS).pixels).movedim(-1, 1) / 255
        with torch.inference_mode():
            expected, unchanged = plain(encoder.stains(bag[None])[0]), plain(bag)
        np.testing.assert_allclose(store.read(index), expected, atol=1e-5)
        assert (expected - unchanged).abs().max() > 0.01


@pytest.mark.parametrize("words", [{"num_workers": 3, "batch_size": 64}, {"batch_size": 1}])
def test_workers_and_batches_do_not_change_what_is_normalised(slides, normalised, tmp_path, words):
    extract(slides, tmp_path, encoder_with("macenko"), **words)
    np.testing.assert_allclose(np.load(tmp_path / "tiles.npy"), np.load(normalised / "tiles.npy"), atol=1e-6)


def test_an_extraction_in_two_runs_ends_with_the_same_bytes(slides, normalised, tmp_path):
    for shard in ("2/2", "1/2"):
        extract(slides, tmp_path, encoder_with("macenko"), shard=shard)
    assert (tmp_path / "tiles.npy").read_bytes() == (normalised / "tiles.npy").read_bytes()


def test_long_bags_are_sampled_in_the_worker_as_on_the_device(slides, tmp_path):
    options = TileOptions(method="tissue", num_tiles=None, tile_size=32, microns_per_pixel=1.0, overlap=28)
    encoder, plain = encoder_with("macenko"), encoder_with()
    extract(slides / "red.tiff", tmp_path, encoder, options=options, batch_size=64)
    bag = torch.from_numpy(cut_slide(slides / "red.tiff", options).pixels).movedim(-1, 1) / 255
    assert len(bag) > 256
    with torch.inference_mode():
        expected = plain(encoder.stains(bag[None])[0])
    np.testing.assert_allclose(BagStore.open(tmp_path).read(0), expected, atol=1e-5)


def test_a_store_of_tiles_and_image_files_give_the_same(tiles, normalised, tmp_path):
    expected = np.load(normalised / "tiles.npy")
    for name, source in (("stored", tiles), ("files", tiles / "png")):
        summary = extract(source, tmp_path / name, encoder_with("macenko"), options=None)
        assert summary.has_store, summary
        np.testing.assert_array_equal(np.load(tmp_path / name / "tiles.npy"), expected)


def test_an_unreadable_image_fails_its_slide_only(tiles, tmp_path):
    for path in (tiles / "png").iterdir():
        (tmp_path / "png").mkdir(exist_ok=True)
        (tmp_path / "png" / path.name).write_bytes(path.read_bytes() if path.name != "blue_1.png" else b"no picture")
    summary = extract(tmp_path / "png", tmp_path / "out", encoder_with("macenko"), options=None, on_error="skip")
    assert list(summary.failures) == ["blue"], summary
    assert BagStore.open(tmp_path / "out").bags["bag_id"].tolist() == ["pale", "red"]


def test_slides_left_as_they_are_are_counted_anew_by_every_extraction(slides, tmp_path):
    brown = stained(1, 1, 96, haematoxylin=(0.65, 0.70, 0.29), eosin=(0.27, 0.57, 0.78), amounts=(1.0, 1.0))
    canvas = np.full((160, 140, 3), 243, np.uint8)
    canvas[30:126, 20:116] = (brown[0, 0].permute(1, 2, 0) * 243).round().byte().numpy()
    write_pyramid(tmp_path / "slides" / "brown.tiff", canvas)
    encoder = encoder_with("macenko")
    (note,) = (note for note in extract(tmp_path / "slides", tmp_path / "brown", encoder).notes if "stains" in note)
    assert note.startswith("the stains of 1 of 1 bags were not normalised")
    assert not any("stains" in note for note in extract(slides, tmp_path / "others", encoder).notes)


def test_the_card_of_the_store_opens_an_encoder_that_normalises(tiles, normalised, tmp_path):
    """As predict, evaluate, the app and the endpoint open it, from the card of a network of features."""
    content = encoder_of(BagStore.open(normalised))
    assert (content["stain_normalisation"], content["stain_target"]) == ("macenko", TARGET)
    torch.save(Conv().state_dict(), tmp_path / "conv.pth")
    opened = open_trained_encoder(content, weights_path=str(tmp_path / "conv.pth"), encoders=[Conv])
    encoder = TrainedEncoder(opened, content).eval()
    store = BagStore.open(tiles)
    expected = np.load(normalised / "tiles.npy")
    kept = open_or_encode(store, encoder, tmp_path / "stores")
    np.testing.assert_allclose(np.asarray(kept.tiles), expected, atol=1e-5)
    pixels = torch.from_numpy(np.array(store.tiles[store.tile_slice(0)])).movedim(-1, 1) / 255
    first = expected[: len(pixels)]
    np.testing.assert_allclose(encoder(pixels[None])[0], first, atol=1e-5)
    with encoder.parts_of_bag(pixels):
        parts = torch.cat([encoder(part[None])[0] for part in pixels.split(2)])
    np.testing.assert_allclose(parts, first, atol=1e-5)
    with pytest.raises(ValueError, match="was not told the bags of these tiles"):
        opened(pixels)
    plain = TrainedEncoder(encoder_with(), content | {"stain_normalisation": "none", "stain_target": None}).eval()
    assert open_or_encode(store, plain, tmp_path / "stores").path != kept.path


def test_features_with_and_without_normalisation_do_not_mix(slides, normalised, tmp_path):
    extract(slides, tmp_path / "plain", encoder_with())
    plain, store = BagStore.open(tmp_path / "plain"), BagStore.open(normalised)
    assert "stain_normalisation" not in plain.description["encoder"]
    network = AttentionMIL(encoder={"name": "linear", "num_features": 6})
    for trained, given in ((store, plain), (plain, store)):
        tiling = trained.description["tiling"]
        card = Card({}, ("a", "b"), "binary", tiling=tiling, encoder=encoder_of(trained))
        require_same_encoder(card, network, trained, trained.path, "best.ckpt")
        with pytest.raises(ValueError, match=r"stains normalised by .*they differ in stain_normalisation"):
            require_same_encoder(card, network, given, given.path, "best.ckpt")


def test_a_card_that_the_encoder_does_not_fit_is_refused(slides, tmp_path):
    card = encoder_with("macenko").card.to_dict()
    with pytest.raises(ValueError, match="differ in whether stains are normalised"):
        extract_features(slides, tmp_path, encoder_with(), card, OPTIONS, device="cpu")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"stain_normalisation": "macenko"}, "give encoder.stain_target_path=FILE"),
        ({"stain_target_path": "target.json"}, "has no use without encoder.stain_normalisation=macenko"),
        ({"stain_normalisation": "vahadane"}, "'vahadane' is unknown; it must be none, macenko or reinhard"),
        ({"stain_normalisation": "macenko", "stain_target_path": "no.json"}, "no.json does not exist"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(words, message):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        build_encoder(OmegaConf.create({"name": "resnet50"} | words))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"stain_normalisation": "macenko"}, {"stain_target": TARGET}, {"stain_normalisation": 3, "stain_target": TARGET},
        {"stain_normalisation": "macenko", "stain_target": REINHARD},
        {"stain_normalisation": "macenko", "stain_target": TARGET | {"amounts": [float("nan"), 1.0]}},
    ],
)  # fmt: skip
def test_a_card_of_somebody_else_is_refused(changes):
    content = encoder_with().card.to_dict() | changes
    with pytest.raises(ValueError, match="stain_|amounts|plain|finite"):
        open_trained_encoder(content, encoders=[Conv])
    assert EncoderCard.from_dict(encoder_with("reinhard").card.to_dict()).stain_target == REINHARD
