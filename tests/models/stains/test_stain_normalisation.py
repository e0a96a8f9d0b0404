"""Stain normalisation, compared with torchstain, scikit-image and the stains that a picture was drawn with."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from skimage.color import lab2rgb, rgb2lab
from torch.utils._python_dispatch import TorchDispatchMode

from milpath.data.loading.augmentation import TileAugmentation
from milpath.models import AttentionMIL, load_network, save_network
from milpath.models.encoders import TileEncoder
from milpath.models.stains import STAIN_METHODS, StainNormalisation, sampled_tiles, unchanged_note
from milpath.models.stains.tissue_pixels import LEAST_DENSITY, optical_density, tissue_pixels
from milpath.slides.detection.stain_vectors import stain_vectors
from tests.models.stains.drawn_stains import EOSIN, HAEMATOXYLIN, stained

METHODS = list(STAIN_METHODS)
TARGETS = {
    "macenko": {"haematoxylin": [0.65, 0.7, 0.2958], "eosin": [0.0995, 0.9897, 0.1027], "amounts": [1.5, 1.0]},
    "reinhard": {"mean": [65.0, 25.0, -15.0], "std": [12.0, 9.0, 6.0]},
}


def normalisation(method: str) -> StainNormalisation:
    return StainNormalisation(method, TARGETS[method])


def of_all_tissue(seed: int) -> torch.Tensor:
    """A bag in which every pixel counts as tissue here and in torchstain: no channel is paler than its threshold."""
    return stained(1, 4, 32, seed=seed, least=0.45)


def test_the_stains_of_a_drawn_bag_are_those_it_was_drawn_with():
    tiles = stained(3, 8, 64, amounts=(1.5, 1.0))
    statistics, sound = STAIN_METHODS["macenko"].statistics(*tissue_pixels(tiles, None))
    assert sound.all()
    for row in statistics:
        assert_allclose(row[:3], HAEMATOXYLIN, atol=0.02)
        assert_allclose(row[3:6], EOSIN, atol=0.02)
        assert_allclose(row[6:], [1.5, 1.0], rtol=0.03)


def test_stain_vectors_are_those_of_a_second_implementation_in_numpy():
    pixels, tissue = tissue_pixels(stained(2, 5, 40, seed=4), None)
    statistics, _ = STAIN_METHODS["macenko"].statistics(pixels, tissue)
    for bag in range(2):
        colours = (pixels[bag][tissue[bag]] * 255).round().byte().numpy()
        haematoxylin, eosin = stain_vectors(colours, 255.0)
        assert_allclose(statistics[bag, :3], haematoxylin, atol=1e-5)
        assert_allclose(statistics[bag, 3:6], eosin, atol=1e-5)


def test_macenko_is_that_of_torchstain():
    torchstain = pytest.importorskip("torchstain")
    macenko = STAIN_METHODS["macenko"]
    source = of_all_tissue(1)
    goal = stained(
        1, 4, 32, seed=2, least=0.45, amounts=(0.9, 1.2), haematoxylin=(0.5, 0.8, 0.3), eosin=(0.2, 0.9, 0.3)
    )
    target = macenko.target_of(macenko.statistics(*tissue_pixels(goal, None))[0])

    def picture(bag: torch.Tensor) -> torch.Tensor:  # (3, height, width)
        return (bag[0] * 255).permute(1, 2, 0, 3).flatten(2)

    theirs = torchstain.normalizers.MacenkoNormalizer(backend="torch")
    # Their optical density is -ln((I + 1) / Io): of pictures darker by one it is -ln(I / 255).
    theirs.fit(picture(goal) - 1, Io=255)
    expected = theirs.normalize(picture(source) - 1, Io=255, stains=False)[0].numpy()
    found = picture(StainNormalisation("macenko", target)(source)).permute(1, 2, 0).numpy()
    assert np.abs(found - picture(source).permute(1, 2, 0).numpy()).mean() > 5
    # They cut off what is behind the point of 8 bits.
    assert_allclose(found - 0.5, expected, atol=0.55)


def test_reinhard_is_that_of_scikit_image():
    tiles = stained(1, 6, 32, seed=3)
    target = TARGETS["reinhard"]
    colours = tiles[0].permute(0, 2, 3, 1).double().numpy()
    density = -np.log(np.clip(colours, 1 / 255, 1))
    lab, tissue = rgb2lab(colours), np.linalg.norm(density, axis=-1) >= LEAST_DENSITY
    mean, std = lab[tissue].mean(0), lab[tissue].std(0)
    moved = lab2rgb((lab - mean) / std * target["std"] + target["mean"])
    share = np.minimum(np.linalg.norm(density, axis=-1, keepdims=True) / LEAST_DENSITY, 1)
    expected = colours + share * (moved - colours)
    found = normalisation("reinhard")(tiles)[0].permute(0, 2, 3, 1)
    assert_allclose(found.numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("method", METHODS)
def test_normalised_bags_have_the_statistics_of_the_target(method):
    tiles = stained(3, 6, 64, amounts=(0.9, 0.8), haematoxylin=(0.55, 0.75, 0.35), eosin=(0.2, 0.93, 0.3))
    stains = normalisation(method)
    pixels, tissue = tissue_pixels(tiles, None)
    before, _ = stains.method.statistics(pixels, tissue)
    after, sound = stains.method.statistics(tissue_pixels(stains(tiles), None)[0], tissue)
    goal = stains.target.double()
    assert sound.all()
    # Up to colours that sRGB lacks.
    assert ((after - goal).abs() <= 0.05 * (before - goal).abs() + 0.01).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_bag_depends_on_no_other_bag_and_on_no_padding(method):
    long, short = stained(1, 9, 32, seed=1), stained(1, 4, 32, seed=2, amounts=(0.8, 0.7))
    padded = torch.cat([long, torch.cat([short, torch.zeros(1, 5, 3, 32, 32)], dim=1)])
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 4:] = False
    stains = normalisation(method)
    together = stains(padded, mask)
    torch.testing.assert_close(together[:1], stains(long), atol=1e-6, rtol=0)
    torch.testing.assert_close(together[1:, :4], stains(short), atol=1e-6, rtol=0)
    noise = padded.clone()
    noise[1, 4:] = torch.rand(5, 3, 32, 32)
    torch.testing.assert_close(stains(noise, mask)[1, :4], together[1, :4], atol=0, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_on_the_device_is_a_loop_over_its_bags(method):
    tiles = torch.cat([stained(1, 3, 32, seed=seed, amounts=(1 + 0.1 * seed, 1.0)) for seed in range(5)])
    stains = normalisation(method)
    one_by_one = torch.cat([stains(bag[None]) for bag in tiles])
    torch.testing.assert_close(stains(tiles), one_by_one, atol=1e-6, rtol=0)


def test_a_long_bag_is_sampled_evenly_and_as_if_only_the_sample_were_given():
    tiles = stained(1, 600, 16, seed=5)
    chosen = sampled_tiles(600)
    assert len(chosen) == 256
    assert chosen[0] == 0
    assert chosen[-1] >= 597
    stains = normalisation("macenko")
    assert torch.equal(stains.values_of(tiles), stains.values_of(tiles[:, chosen]))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_stained_tissue_stays_finite_and_as_it_is(method):
    rng = np.random.default_rng(0)
    grey = torch.from_numpy(rng.uniform(0.2, 0.9, (4, 1, 32, 32))).float().expand(4, 3, 32, 32)
    one_colour = torch.tensor([0.6, 0.3, 0.5])[:, None, None].expand(4, 3, 32, 32)
    few = torch.ones(4, 3, 32, 32)
    few[0, :, :6, :6] = stained(1, 1, 6)[0, 0]
    bags = {"white": torch.ones(4, 3, 32, 32), "black": torch.zeros(4, 3, 32, 32), "grey": grey, "one": one_colour}
    bags |= {"few": few}
    stains = normalisation(method)
    tiles = torch.stack(list(bags.values()))
    assert torch.equal(stains(tiles), tiles)
    assert stains.num_unchanged == stains.num_bags == len(bags)
    assert "5 of 5 bags were not normalised" in str(unchanged_note(stains))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(8))
def test_any_tile_stays_finite_and_in_range(method, seed):
    rng = np.random.default_rng(seed)
    # Random colours, saturated ink, black padding beside tissue, half of it white.
    tiles = torch.from_numpy(
        rng.choice([0.0, 1.0, 0.5, rng.uniform()], (2, 3, 3, 32, 32)) ** rng.uniform(0.2, 5)
    ).float()
    tiles[0, 0] = stained(1, 1, 32, seed=seed)[0, 0]
    tiles[1, 1] = torch.tensor([0.1, 0.1, 0.9])[:, None, None]
    found = normalisation(method)(tiles)
    assert torch.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


def test_the_brown_of_an_immunostain_is_not_made_eosin():
    brown = stained(1, 6, 32, eosin=(0.27, 0.57, 0.78))
    stains = normalisation("macenko")
    assert torch.equal(stains(brown), brown)
    assert stains.num_unchanged == 1


@pytest.mark.parametrize("method", METHODS)
def test_white_stays_white(method):
    tiles = stained(1, 4, 32)
    tiles[0, :, :, :10] = 1
    found = normalisation(method)(tiles)
    assert_allclose(found[0, :, :, :10], 1, atol=1e-6)
    assert (optical_density(tiles - found).norm() > 0.1).item()


@pytest.mark.parametrize("method", METHODS)
def test_an_encoder_in_micro_batches_or_parts_of_a_bag_says_the_same(method):
    torch.manual_seed(0)
    spec = {"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8, "stain_normalisation": method}
    spec |= {"stain_target": TARGETS[method]}
    encoder = TileEncoder(spec).eval()
    tiles = stained(2, 6, 32, amounts=(0.8, 1.3))
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    with torch.inference_mode():
        whole = encoder(tiles, mask)
        by_hand = encoder.network(normalisation(method)(tiles, mask)[mask])
        torch.testing.assert_close(whole[mask], by_hand, atol=1e-5, rtol=0)
        encoder.tile_micro_batch = 3
        torch.testing.assert_close(encoder(tiles, mask), whole, atol=1e-5, rtol=0)
        with encoder.parts_of_bag(tiles[0]):
            parts = torch.cat([encoder(part[None])[0] for part in tiles[0].split(2)])
        torch.testing.assert_close(parts, whole[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_with_recomputed_activations_are_the_same(method):
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        spec = {"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8, "dropout": 0.0, "stain_normalisation": method}
        spec |= {"stain_target": TARGETS[method], "activation_checkpointing": recompute, "tile_micro_batch": 2}
        encoder = TileEncoder(spec).train()
        encoder(stained(1, 4, 32)).square().sum().backward()
        gradients.append([value.grad for value in encoder.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_checkpoint_keeps_the_target_in_plain_values(tmp_path):
    torch.manual_seed(0)
    encoder = {"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8, "stain_normalisation": "macenko"}
    network = AttentionMIL(encoder=encoder | {"stain_target": TARGETS["macenko"]}).eval()
    save_network(network, tmp_path / "network.pt")
    again = load_network(tmp_path / "network.pt")
    assert again.encoder["stain_target"] == TARGETS["macenko"]
    tiles = stained(2, 3, 32)
    assert torch.equal(again(tiles).logits, network(tiles).logits)
    plain = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8}).eval()
    plain.load_state_dict(network.state_dict())
    assert not torch.allclose(plain(tiles).logits, network(tiles).logits, atol=1e-4)


def test_a_jitter_of_tiles_that_augmentation_draws_is_left_among_them():
    tiles = stained(1, 12, 32)
    jittered = TileAugmentation("full", stain_jitter=0.3).recolour(tiles, torch.Generator().manual_seed(0))
    stains = normalisation("macenko")
    density = optical_density(stains(jittered)).mean((2, 3, 4))[0]
    plain = optical_density(stains(tiles)).mean((2, 3, 4))[0]
    drawn = optical_density(jittered).mean((2, 3, 4))[0] / optical_density(tiles).mean((2, 3, 4))[0]
    assert np.corrcoef((density / plain).numpy(), drawn.numpy())[0, 1] > 0.9


BAD = {
    "no target": ("macenko", None),
    "another method": ("reinhard", TARGETS["macenko"]),
    "unknown method": ("vahadane", TARGETS["macenko"]),
    "not a name": (["macenko"], TARGETS["macenko"]),
    "two numbers": ("macenko", TARGETS["macenko"] | {"eosin": [0.1, 0.9]}),
    "nan": ("reinhard", TARGETS["reinhard"] | {"std": [float("nan"), 1.0, 1.0]}),
    "infinite": ("macenko", TARGETS["macenko"] | {"amounts": [float("inf"), 1.0]}),
    "zero": ("reinhard", TARGETS["reinhard"] | {"std": [0.0, 1.0, 1.0]}),
    "text": ("macenko", TARGETS["macenko"] | {"amounts": "12"}),
    "true": ("macenko", TARGETS["macenko"] | {"amounts": [True, True]}),
    "one stain": ("macenko", TARGETS["macenko"] | {"eosin": TARGETS["macenko"]["haematoxylin"]}),
    "not a direction": ("macenko", TARGETS["macenko"] | {"eosin": [0.9, 0.9, 0.9]}),
    "more": ("macenko", TARGETS["macenko"] | {"_target_": [1.0]}),
    "a list": ("macenko", [1.0] * 8),
}


@pytest.mark.parametrize("case", list(BAD))
def test_a_target_of_somebody_else_is_refused_in_one_line(case, tmp_path):
    method, target = BAD[case]
    encoder = {"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8}
    with pytest.raises(ValueError, match="stain") as refusal:
        TileEncoder(encoder | {"stain_normalisation": method, "stain_target": target})
    assert "\n" not in str(refusal.value)
    network = AttentionMIL(encoder=encoder)
    network.encoder = encoder | {"stain_normalisation": method, "stain_target": target}
    with pytest.raises(ValueError, match="stain|finite|plain|nan|inf"):
        save_network(network, tmp_path / "network.pt")
        load_network(tmp_path / "network.pt")


def test_features_have_no_stains():
    spec = {"name": "linear", "num_features": 4, "stain_normalisation": "macenko", "stain_target": TARGETS["macenko"]}
    with pytest.raises(ValueError, match="takes features"):
        TileEncoder(spec)


class _Count(TorchDispatchMode):
    """Counts the operations of torch."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", METHODS)
def test_more_bags_tiles_and_pixels_need_no_more_operations(method):
    """A guard against a loop over bags, tiles or pixels; the measured times are in the documentation."""
    stains, numbers = normalisation(method), []
    for bags, tiles, size in ((1, 2, 32), (3, 16, 64)):
        drawn = stained(bags, tiles, size)
        with torch.inference_mode(), _Count() as count:
            stains(drawn)
        numbers.append(count.number)
    assert 0 < numbers[0] == numbers[1]
