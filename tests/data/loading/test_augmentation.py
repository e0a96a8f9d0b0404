import math

import pytest
import torch

from milpath.data.loading.augmentation import TileAugmentation


@pytest.fixture
def tiles():
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (3, 20, 8, 8, 3), dtype=torch.uint8, generator=generator)
    return stored.permute(0, 1, 4, 2, 3)


def positions(tile):
    """The eight positions of a square."""
    turned = [torch.rot90(tile, turns, (-2, -1)) for turns in range(4)]
    return turned + [each.flip(-1) for each in turned]


def test_every_tile_takes_one_of_the_eight_positions_and_all_occur(tiles):
    turned = TileAugmentation("turns").turn(tiles, torch.Generator().manual_seed(0))
    seen = set()
    for before, after in zip(tiles.flatten(0, 1), turned.flatten(0, 1), strict=True):
        matches = [number for number, position in enumerate(positions(before)) if torch.equal(position, after)]
        assert matches
        seen.add(matches[0])
    assert seen == set(range(8))


def test_flips_do_not_turn(tiles):
    flipped = TileAugmentation("flips").turn(tiles, torch.Generator().manual_seed(0))
    seen = set()
    for before, after in zip(tiles.flatten(0, 1), flipped.flatten(0, 1), strict=True):
        options = [before, before.flip(-1), before.flip(-2), before.flip(-1).flip(-2)]
        seen.add(next(number for number, option in enumerate(options) if torch.equal(option, after)))
    assert seen == {0, 1, 2, 3}


def test_tiles_of_one_bag_are_changed_independently():
    tile = torch.rand(3, 8, 8)
    bag = tile.expand(1, 64, 3, 8, 8)
    augmented = TileAugmentation("full", stain_jitter=0.2)(bag, torch.Generator().manual_seed(0))
    assert len(torch.unique(augmented.flatten(2)[0], dim=0)) == 64


def test_one_seed_gives_one_result_with_or_without_a_generator(tiles):
    floats = tiles.float() / 255
    augmentation = TileAugmentation("full")
    one, other = (augmentation(floats, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, other)
    torch.manual_seed(4)
    assert torch.equal(augmentation(floats), one)
    assert not torch.equal(augmentation(floats), one)


def test_memory_layout_stays_channels_last(tiles):
    floats = tiles.float() / 255
    for kind in ("none", "flips", "turns", "full", "affine"):
        augmented = TileAugmentation(kind)(floats, torch.Generator().manual_seed(0))
        assert augmented.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_stain_jitter_keeps_white_white_and_stays_in_range(tiles):
    augmentation = TileAugmentation("full", stain_jitter=0.3)
    floats = tiles.float() / 255
    recoloured = augmentation.recolour(floats, torch.Generator().manual_seed(0))
    assert recoloured.min() >= 0
    assert recoloured.max() <= 1
    torch.testing.assert_close(augmentation.recolour(torch.ones_like(floats)), torch.ones_like(floats))


def test_stain_jitter_is_the_formula_in_optical_density():
    """Against the definition, one pixel at a time: unmix, scale each stain, mix."""
    tiles = torch.rand(1, 2, 3, 2, 2) * 0.8 + 0.1
    recoloured = TileAugmentation("full", stain_jitter=0.2).recolour(tiles, torch.Generator().manual_seed(7))
    stains = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], dtype=torch.float64)
    draws = torch.rand((1, 2, 3, 1), generator=torch.Generator().manual_seed(7)).double()
    for tile in range(2):
        factors = 0.8 + 0.4 * draws[0, tile, :, 0]
        for row in range(2):
            for column in range(2):
                density = -torch.log(tiles[0, tile, :, row, column].double())
                amounts = torch.linalg.solve(stains.T, density)
                expected = torch.exp(-((amounts * factors) @ stains)).clamp(0, 1)
                torch.testing.assert_close(recoloured[0, tile, :, row, column].double(), expected, atol=1e-5, rtol=0)


def test_a_jitter_of_zero_changes_nothing(tiles):
    floats = tiles.float() / 255
    assert torch.equal(TileAugmentation("full", stain_jitter=0).recolour(floats), floats)


def test_an_unknown_kind_is_refused():
    with pytest.raises(
        ValueError, match=r"^data.augmentation is 'flip'; it must be one of none, flips, turns, full, affine$"
    ):
        TileAugmentation("flip")
    with pytest.raises(ValueError, match=r"^data.stain_jitter is 1; it must be in \[0, 1\)$"):
        TileAugmentation("full", stain_jitter=1)


def test_grey_tiles_cannot_be_recoloured():
    with pytest.raises(ValueError, match=r"^data.augmentation=full needs colour tiles, these have 1 channel\(s\)$"):
        TileAugmentation("full")(torch.rand(1, 2, 1, 8, 8))


def test_affine_moves_each_tile_by_little_and_independently():
    """A bright square off the centre of a 28 px tile: its centre of mass says how the tile was moved."""
    tiles = torch.zeros(1, 400, 1, 28, 28)
    tiles[..., 6:14, 16:24] = 1
    moved = TileAugmentation("affine")(tiles, torch.Generator().manual_seed(0))[0, :, 0]
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert len(torch.unique(moved.flatten(1), dim=0)) == 400
    mass, places = moved.sum((1, 2)), torch.arange(28) + 0.5
    y, x = (moved.sum(2) * places).sum(1) / mass - 14, (moved.sum(1) * places).sum(1) / mass - 14
    # The mass changes with the area, by a factor between 1/1.1^2 and 1.1^2 (and a little by interpolation).
    assert 64 / 1.1**2 * 0.96 < mass.min() < 64 / 1.09**2
    assert 64 * 1.09**2 < mass.max() < 64 * 1.1**2 * 1.04
    # The square was at (6, -4): a shift of at most 2 px each way, a rotation of at most 15 degrees and the size.
    radius = math.hypot(6, 4)
    distance = (x - 6).hypot(y + 4)
    assert 3 < distance.max() < 1.1 * (2 * 2**0.5 + radius * (2 * math.sin(math.radians(7.5)) + 0.1))
    turns = torch.rad2deg(torch.atan2(y, x) - math.atan2(-4, 6))
    assert turns.std() > 8
    torch.testing.assert_close(torch.stack([x.mean(), y.mean()]), torch.tensor([6.0, -4.0]), atol=0.3, rtol=0)


def test_affine_keeps_the_shapes_of_tiles_that_are_no_squares():
    """A square stays a square, of equal sides along its axes, also on a tile that is twice as wide as high."""
    tiles = torch.zeros(1, 50, 3, 24, 48)
    tiles[..., 8:16, 20:28] = 1
    moved = TileAugmentation("affine")(tiles, torch.Generator().manual_seed(1))[0, :, 0].double()
    mass = moved.sum((1, 2))
    y, x = torch.arange(24).double(), torch.arange(48).double()
    of_y = (moved.sum(2) * y**2).sum(1) / mass - ((moved.sum(2) * y).sum(1) / mass) ** 2
    of_x = (moved.sum(1) * x**2).sum(1) / mass - ((moved.sum(1) * x).sum(1) / mass) ** 2
    torch.testing.assert_close(of_x, of_y, rtol=0.03, atol=0)


def test_affine_repeats_the_edge(tiles):
    white = torch.ones(1, 3, 3, 8, 8)
    torch.testing.assert_close(TileAugmentation("affine")(white, torch.Generator().manual_seed(0)), white)
