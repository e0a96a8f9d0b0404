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
        (
            {"tissue_threshold": "high"},
            "tissue_threshold=high must be a saturation above 0 and below 255, otsu .*or null",
        ),
        ({"tissue_threshold": 300}, "tissue_threshold=300 must be a saturation above 0 and below 255"),
        ({"background": "black"}, "background=black is unknown; it must be one of white, mask"),
        ({"background": "mask", "method": "grid"}, "background=mask is for method=darkest, not method=grid"),
        ({"min_inside": 1.5}, "min_inside=1.5 must be from 0 to 1"),
        ({"tissue_model": "a.onnx"}, "tissue_model is for method=tissue, or method=darkest background=mask"),
        ({"microns_per_pixel": -1}, "microns_per_pixel=-1 must be above 0"),
        (
            {"slide_microns_per_pixel": 499},
            "slide_microns_per_pixel=499 must be from 0.05 to 20, the microns of a pixel of a",
        ),
        ({"slide_microns_per_pixel": 0.001}, "slide_microns_per_pixel=0.001 must be from 0.05 to 20"),
        ({"slide_microns_per_pixel": 0.0}, "slide_microns_per_pixel=0.0 must be from 0.05 to 20"),
        ({"microns_per_pixel": 2.0, "level": 0}, "give level=0 or microns_per_pixel=2.0, not both"),
    ],
)
def test_an_option_that_makes_no_sense_is_named_with_what_would(words, message):
    with pytest.raises(ValueError, match=message):
        TileOptions(**words)


@pytest.mark.parametrize(
    "options",
    [
        TileOptions(), TileOptions("tissue", None, 256, -1, 2.0, 32), TileOptions("grid", None), TileOptions(min_inside=0.5),
        TileOptions(background="mask", tissue_threshold=12.5, min_tissue=0.3), TileOptions("tissue", tissue_threshold="otsu"),
    ],
)  # fmt: skip
def test_options_survive_a_store_and_a_checkpoint(options):
    assert TileOptions.from_tiling(options.to_tiling() | {"tile_columns": "something else"}) == options


@pytest.mark.parametrize("stated", [0.05, 20, 0.05 * (1 - 1e-9), 20 * (1 + 1e-9)])
def test_the_ends_of_the_range_of_a_microscope_may_be_stated(stated):
    assert TileOptions(slide_microns_per_pixel=stated).slide_microns_per_pixel == stated


def test_a_checkpoint_keeps_what_an_earlier_version_let_a_user_state():
    assert (
        TileOptions.from_tiling({"method": "grid", "slide_microns_per_pixel": 28.97}).assumed_microns_per_pixel == 28.97
    )


def test_ready_made_tiles_of_the_same_rule_can_be_cut_from_slides():
    options = TileOptions.from_tiling({"rule": "darkest", "tile_size": 128, "num_tiles": 16})
    assert options == TileOptions()
    with pytest.raises(ValueError, match="made by 'nuclei', which cannot cut slides"):
        TileOptions.from_tiling({"rule": "nuclei"})


def test_what_0_1_0_cut_is_cut_with_its_detection_of_tissue():
    known = {"method": "tissue", "num_tiles": None, "tile_size": 64, "level": -1, "microns_per_pixel": 1.0, "overlap": 0,
             "min_tissue": 0.1, "slide_microns_per_pixel": None}  # fmt: skip
    assert TileOptions.from_tiling(known).tissue_threshold == "otsu"
    assert TileOptions.from_tiling(TileOptions("tissue").to_tiling()).tissue_threshold is None
    assert TileOptions().to_tiling() == {
        "method": "darkest", "num_tiles": 16, "tile_size": 128, "level": -1, "microns_per_pixel": None, "overlap": 0,
        "slide_microns_per_pixel": None,
    }  # fmt: skip


def test_a_tissue_model_is_kept_as_its_hash_and_cannot_be_found_again(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"network")
    tiling = TileOptions("tissue", tissue_model=str(tmp_path / "a.onnx")).to_tiling()
    assert len(tiling["tissue_model_sha256"]) == 64
    assert str(tmp_path) not in str(tiling)
    with pytest.raises(ValueError, match="were chosen with a tissue model, which checkpoints and stores do not hold"):
        TileOptions.from_tiling(tiling)
