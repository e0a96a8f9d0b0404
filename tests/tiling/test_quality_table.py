import numpy as np
import pandas as pd
import pytest
from PIL import Image

from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from tests.tissue_situations import draw_situation

OPTIONS = TileOptions(tile_size=64, num_tiles=12, level=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality")
    (folder / "slides").mkdir()
    for name, situation in (("a plain", "H&E"), ("b pen", "black pen"), ("c plain", "tinted glass")):
        Image.fromarray(draw_situation(situation)[0]).save(folder / "slides" / f"{name}.png")
    summary = build_slide_store(folder / "slides", folder / "out", OPTIONS, num_workers=1)
    return folder, summary


def test_the_table_has_a_row_per_slide_and_names_what_looks_wrong(store):
    table = pd.read_csv(store[0] / "out/quality.csv")
    assert table["bag_id"].tolist() == ["a plain", "b pen", "c plain"]
    assert table["warnings"].notna().tolist() == [False, True, False]
    assert "ink" in table["warnings"][1].split("; ")
    assert table["tissue_in_bag"][0] > 0.5 > table["tissue_in_bag"][1]
    assert (table["num_tiles"] + table["num_filler"] == 12).all()


def test_the_summary_says_how_many_slides_look_wrong_also_when_the_store_is_finished(store):
    folder, summary = store
    wanted = f"1 slide: marker ink covers more than 10 % of their tiles, see {folder}/out/quality.csv"
    assert wanted in summary.notes
    again = build_slide_store(folder / "slides", folder / "out", OPTIONS, num_workers=1)
    assert (again.num_cut, again.notes) == (0, summary.notes)


def test_slides_that_look_wrong_come_first_on_the_contact_sheet(store):
    """The first picture of the sheet has the black stroke of the pen."""
    with Image.open(store[0] / "out/overview/sheet_0001.jpg") as sheet:
        pictures = np.split(np.asarray(sheet.convert("L"))[60:-30, : 3 * (sheet.width // 3)], 3, axis=1)
    dark = [(picture < 60).mean() for picture in pictures]
    assert dark[0] > 2 * max(dark[1:])
