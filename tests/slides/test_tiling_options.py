import pytest

from milpath.slides.tiling_options import TileOptions


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"method": "lightest"}, "method=lightest is unknown; it must be one of darkest, tissue, grid"),
        ({"num_tiles": 0}, "num_tiles=0 must be at least 1"),
        ({"tile_size": 0}, "tile_size=0 must be at least 1"),
        ({"tile_size": 10**6}, "tile_size=1000000 must be at most 4096"),
        ({"tile_size": 12.5}, "tile_size=12.5 must be a whole number"),
        ({"overlap": 128}, "overlap=128 must be at most 127"),
        ({"min_tissue": 0}, "min_tissue=0 must be above 0"),
        ({"microns_per_pixel": -1}, "microns_per_pixel=-1 must be above 0"),
        ({"microns_per_pixel": 2.0, "level": 0}, "give level=0 or microns_per_pixel=2.0, not both"),
    ],
)
def test_an_option_that_makes_no_sense_is_named_with_what_would(words, message):
    with pytest.raises(ValueError, match=message):
        TileOptions(**words)


@pytest.mark.parametrize(
    "options", [TileOptions(), TileOptions("tissue", None, 256, -1, 2.0, 32), TileOptions("grid", None)]
)
def test_options_survive_a_store_and_a_checkpoint(options):
    assert TileOptions.from_tiling(options.to_tiling() | {"tile_columns": "something else"}) == options


def test_ready_made_tiles_of_the_same_rule_can_be_cut_from_slides():
    options = TileOptions.from_tiling({"rule": "darkest", "tile_size": 128, "num_tiles": 16})
    assert options == TileOptions()
    with pytest.raises(ValueError, match="made by 'nuclei', which cannot cut slides"):
        TileOptions.from_tiling({"rule": "nuclei"})
