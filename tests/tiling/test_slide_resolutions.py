"""The resolution of slides: what the user states wins, one store has one, and what is odd is said in a line."""

import numpy as np
import pandas as pd
import pytest

from milpath.data.store.bag_store import BagStore
from milpath.slides.tiling_options import TileOptions
from milpath.tile import describe
from milpath.tiling.slide_bags import build_slide_store
from milpath.tiling.slide_plan import plan_slides
from tests.pyramids import tissue, write_pyramid

PICTURE = tissue(120, 160)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Two scans of one piece of tissue at 0.5 microns, one of them with a smaller level, and one that states nothing."""
    folder = tmp_path_factory.mktemp("resolutions") / "slides"
    write_pyramid(folder / "a.tif", PICTURE, factors=(4, 1))
    write_pyramid(folder / "b.tif", PICTURE, factors=(4,))
    return folder


def cut(slides, output, notes=True, **words):
    options = {name: words.pop(name) for name in tuple(words) if name in TileOptions.__dataclass_fields__}
    summary = build_slide_store(
        slides, output, TileOptions(tile_size=32, num_tiles=4, **options), num_workers=1, **words
    )
    return summary, describe(summary, "out")


def test_a_store_of_two_resolutions_is_refused_unless_it_is_wanted(slides, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"tiles have 0\.5 to 2 microns per pixel \(b, a\); set microns_per_pixel=2 overwrite=true .*"
        r"or mixed_resolution=allow",
    ):
        cut(slides, tmp_path / "out")
    assert not (tmp_path / "out/store.json").exists()
    # Nothing is cut again.
    summary, said = cut(slides, tmp_path / "out", mixed_resolution="allow")
    assert (summary.num_before, summary.num_cut, summary.has_store) == (2, 0, True)
    assert "tiles have 0.5 to 2 microns per pixel\n" in said
    assert BagStore.open(tmp_path / "out").bags["microns_per_pixel"].tolist() == [2.0, 0.5]
    with pytest.raises(ValueError, match="mixed_resolution=maybe is unknown; it must be one of error, allow"):
        cut(slides, tmp_path / "other", mixed_resolution="maybe")


def test_one_resolution_for_all_is_one_line(slides, tmp_path):
    _, said = cut(slides, tmp_path / "out", microns_per_pixel=2.0)
    assert "tiles have 2 microns per pixel\n" in said


def test_what_a_table_states_counts_and_the_line_says_both_values(slides, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("slide_id;label;microns_per_pixel\na.tif;0;0,25\nb.tif;1;\n")
    words = {"labels": labels, "microns_per_pixel": 1.0}
    _, said = cut(slides, tmp_path / "out", **words)
    assert "'a': the stated 0.25 microns per pixel are used instead of the 0.5 in the file\n" in said
    bags = BagStore.open(tmp_path / "out").bags.set_index("bag_id")
    assert bags["downsample"].tolist() == [4.0, 2.0]
    assert bags["microns_per_pixel"].tolist() == [1.0, 1.0]
    # The same from a table of its own, with the option for the slides that it leaves out.
    table = tmp_path / "resolutions.csv"
    table.write_text("slide_id,microns_per_pixel\na,0.25\nelsewhere,3\n")
    cut(slides, tmp_path / "again", resolutions=table, microns_per_pixel=1.0)
    again = BagStore.open(tmp_path / "again").bags.set_index("bag_id")
    assert again["downsample"].tolist() == [4.0, 2.0]
    np.testing.assert_array_equal(np.load(tmp_path / "again/tiles.npy"), np.load(tmp_path / "out/tiles.npy"))


@pytest.mark.parametrize("cell", ["0.5 um", "-1", "0", "nan", "inf", "5000", "499", "0.001", "20.5"])
def test_a_cell_that_is_no_resolution_is_refused_with_the_slide(slides, tmp_path, cell):
    (tmp_path / "r.csv").write_text(f"slide_id,microns_per_pixel\nb,{cell}\n")
    with pytest.raises(
        ValueError,
        match=r"r\.csv states .* microns per pixel for 'b'; expected a number from 0\.05 to 20, such as 0\.25",
    ):
        plan_slides(slides, None, None, tmp_path / "out", resolutions=tmp_path / "r.csv")


def test_rows_of_other_names_are_said_while_a_slide_has_none(slides, tmp_path, caplog):
    (tmp_path / "r.csv").write_text("slide_id,microns_per_pixel\nb,0.5\ncc,0.4\n")
    with caplog.at_level("WARNING"):
        plan_slides(slides, None, None, tmp_path / "out", resolutions=tmp_path / "r.csv")
    (said,) = caplog.messages
    assert said.startswith(f"resolutions={tmp_path / 'r.csv'} has no row for ")
    assert "which keep the resolution of their file, and names 1 that are not here (first: 'cc')" in said


def test_tables_of_resolutions_that_cannot_be_meant_are_refused(slides, tmp_path):
    (tmp_path / "other.csv").write_text("slide_id,microns_per_pixel\nx,0.5\n")
    with pytest.raises(ValueError, match="names none of the slides"):
        plan_slides(slides, None, None, tmp_path / "out", resolutions=tmp_path / "other.csv")
    (tmp_path / "without.csv").write_text("slide_id,mpp\na,0.5\n")
    with pytest.raises(ValueError, match="no column 'microns_per_pixel'"):
        plan_slides(slides, None, None, tmp_path / "out", resolutions=tmp_path / "without.csv")
    (tmp_path / "labels.csv").write_text("slide_id,microns_per_pixel\na,0.5\nb,0.5\n")
    with pytest.raises(ValueError, match="give one of them"):
        plan_slides(slides, tmp_path / "labels.csv", None, tmp_path / "out", resolutions=tmp_path / "other.csv")


def test_the_resolution_of_tiles_in_a_table_of_bags_is_not_that_of_slides(slides, tmp_path):
    cut(slides, tmp_path / "out", microns_per_pixel=2.0)
    plan = plan_slides(slides, tmp_path / "out/bags.csv", None, tmp_path / "again")
    assert pd.read_csv(tmp_path / "out/bags.csv")["microns_per_pixel"].tolist() == [2.0, 2.0]
    assert plan.resolutions == {}


def test_slides_that_state_nothing_are_named_beside_the_others(slides, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("a.tif", "b.tif"):
        (folder / name).symlink_to(slides / name)
    write_pyramid(folder / "c.tif", PICTURE, factors=(4,), resolutionunit="NONE")
    _, said = cut(folder, tmp_path / "out", mixed_resolution="allow")
    assert "tiles have 0.5 to 2 microns per pixel; 1 slide does not state its own: 'c'\n" in said


def test_a_lost_piece_of_a_slide_is_named_in_the_summary(tmp_path):
    from tests.slides.readers.test_tiff_pyramid import erase

    path = write_pyramid(tmp_path / "slides/lossy.tif", PICTURE, factors=(1,), compression=None)
    erase(path, [1])
    _, said = cut(path.parent, tmp_path / "out")
    assert "'lossy': 1 of 6 pieces of level 0 have no data in the file and are white\n" in said
