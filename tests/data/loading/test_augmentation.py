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
    for kind in ("none", "flips", "turns", "full"):
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
    with pytest.raises(ValueError, match=r"^data.augmentation is 'flip'; it must be one of none, flips, turns, full$"):
        TileAugmentation("flip")
    with pytest.raises(ValueError, match=r"^data.stain_jitter is 1; it must be in \[0, 1\)$"):
        TileAugmentation("full", stain_jitter=1)


def test_grey_tiles_cannot_be_recoloured():
    with pytest.raises(ValueError, match=r"^data.augmentation=full needs colour tiles, these have 1 channel\(s\)$"):
        TileAugmentation("full")(torch.rand(1, 2, 1, 8, 8))
