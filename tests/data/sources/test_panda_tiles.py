import hashlib
import json
import logging
import re
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest

from milpath.data.sources.panda_tiles import PandaTiles, tiles_by_slide
from milpath.data.store.store_build import open_or_build


@pytest.fixture
def folder(synthetic_folder, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(synthetic_folder, tmp_path / "panda")


def build(folder, tmp_path, **arguments):
    source = PandaTiles(folder / "train", folder / "train.csv", **({"num_tiles": 4, "tile_size": 32} | arguments))
    return open_or_build(source, tmp_path / "stores")


def zip_of(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w") as archive:
        for tile in sorted(folder.glob("*.png")):
            archive.write(tile, prefix + tile.name)
    return path


def test_real_slides_are_equal_through_folder_and_zip_and_are_the_published_tiles(shared_data, tmp_path):
    data = shared_data / "panda_pixels"
    archive = zip_of(data / "train", tmp_path / "tiles.zip", prefix="train/")
    stores = [
        open_or_build(PandaTiles(tiles, data / "labels.csv"), tmp_path / "stores")
        for tiles in (data / "train", data, archive)
    ]
    golden = json.loads((data / "golden_tiling.json").read_text())
    for store in stores:
        assert store.bags["isup_grade"].tolist() == [4, 0]
        for index, image_id in enumerate(store.bags["bag_id"]):
            tiles = np.asarray(store.tiles[store.tile_slice(index)])
            assert [hashlib.sha256(tile.tobytes()).hexdigest() for tile in tiles] == golden[image_id]["tile_sha256"]
    assert len({store.description["sha256"] for store in stores}) == 1


def test_masks_of_the_published_archive_are_left_alone(folder, tmp_path):
    path = tmp_path / "both.zip"
    zip_of(folder / "train", path, prefix="train/")
    with zipfile.ZipFile(path, "a") as archive:
        for tile in (folder / "train").glob("*.png"):
            archive.writestr(f"masks/{tile.name}", b"a mask")
    source = PandaTiles(path, folder / "train.csv", num_tiles=4, tile_size=32)
    assert len(open_or_build(source, tmp_path / "stores")) == 10


def test_tiles_with_higher_numbers_are_not_used(folder, tmp_path):
    assert build(folder, tmp_path, num_tiles=2).num_tiles.tolist() == [2] * 10


def test_bags_come_in_the_order_of_their_names(folder, tmp_path):
    names = build(folder, tmp_path).bags["bag_id"].tolist()
    assert names == sorted(names)


def test_no_data_says_how_to_get_panda_and_what_to_do_without(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        open_or_build(PandaTiles(tmp_path / "train", tmp_path / "train.csv"), tmp_path / "stores")
    text = str(error.value)
    assert text.startswith(
        f"no tiles of PANDA at {tmp_path / 'train'}; get train.csv from https://www.kaggle.com/c/prostate"
    )
    assert "https://www.kaggle.com/datasets/iafoss/panda-16x128x128-tiles-data" in text
    assert text.endswith("or try data=synthetic, which needs no download")
    (tmp_path / "train").mkdir()
    with pytest.raises(FileNotFoundError, match=r"^no labels of PANDA at .*train.csv; get train.csv from"):
        open_or_build(PandaTiles(tmp_path / "train", tmp_path / "train.csv"), tmp_path / "stores")


def test_a_folder_without_tiles_says_so(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"^no file \{image_id\}_\{i\}.png in .*empty; get train.csv"):
        open_or_build(PandaTiles(tmp_path / "empty", folder / "train.csv"), tmp_path / "stores")


def names_of(folder):
    return sorted(pd.read_csv(folder / "train.csv")["image_id"])


def test_slides_without_tiles_are_counted_and_named(folder, tmp_path):
    names = names_of(folder)
    for name in names[3:5]:
        for path in (folder / "train").glob(f"{name}_*.png"):
            path.unlink()
    table = pd.read_csv(folder / "train.csv")
    first = next(name for name in table["image_id"] if name in names[3:5])
    with pytest.raises(FileNotFoundError) as error:
        build(folder, tmp_path)
    assert str(error.value) == (
        f"2 of 10 bags in {folder / 'train.csv'} have no tiles in {folder / 'train'} (first: '{first}'); "
        "add what is missing, or leave these bags out with data.on_mismatch=skip"
    )


def test_tiles_without_a_row_are_counted_and_named(folder, tmp_path):
    table = pd.read_csv(folder / "train.csv")
    gone = min(table["image_id"][:2])
    table[~table["image_id"].isin(table["image_id"][:2])].to_csv(folder / "train.csv", index=False)
    with pytest.raises(ValueError) as error:
        build(folder, tmp_path)
    assert str(error.value) == (
        f"2 bags in {folder / 'train'} have no row in {folder / 'train.csv'} (first: '{gone}'); "
        "add what is missing, or leave these bags out with data.on_mismatch=skip"
    )


def test_a_slide_that_lacks_a_tile_is_named(folder, tmp_path):
    name = names_of(folder)[4]
    (folder / "train" / f"{name}_2.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 bags in .* lack some of their 4 tiles \(first: '{name}_2.png'\)"):
        build(folder, tmp_path)


def test_skipping_is_asked_for_counted_and_named(folder, tmp_path, caplog):
    names = names_of(folder)
    (folder / "train" / f"{names[0]}_1.png").unlink()
    for path in (folder / "train").glob(f"{names[1]}_*.png"):
        path.unlink()
    shutil.copy(folder / "train" / f"{names[2]}_0.png", folder / "train" / "stranger_0.png")
    with caplog.at_level(logging.WARNING, logger="milpath"):
        store = build(folder, tmp_path, on_mismatch="skip")
    assert store.bags["bag_id"].tolist() == names[2:]
    assert caplog.messages == [
        f"left out: 1 of 10 bags in {folder / 'train.csv'} have no tiles in {folder / 'train'} (first: '{names[1]}')",
        f"left out: 1 bags in {folder / 'train'} lack some of their 4 tiles (first: '{names[0]}_1.png')",
        f"left out: 1 bags in {folder / 'train'} have no row in {folder / 'train.csv'} (first: 'stranger')",
    ]


def test_a_table_of_another_data_set_is_refused_even_when_skipping(folder, tmp_path):
    pd.DataFrame({"image_id": ["x", "y"], "isup_grade": [0, 1]}).to_csv(folder / "train.csv", index=False)
    with pytest.raises(ValueError, match=r"^none of the 2 bags in .*train.csv has tiles in .*: the table names 'x'"):
        build(folder, tmp_path, on_mismatch="skip")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no image", "is not an image; copy or download it again"), (None, "is a damaged PNG")],
)
def test_a_damaged_tile_is_named_and_no_store_is_left(folder, tmp_path, content, message):
    path = folder / "train" / f"{names_of(folder)[5]}_3.png"
    path.write_bytes(path.read_bytes()[:-300] if content is None else content)
    with pytest.raises(ValueError, match=rf"^1 of 10 bags in .*\({re.escape(str(path))} {message}"):
        build(folder, tmp_path)
    assert [path for path in (tmp_path / "stores").iterdir() if path.is_dir()] == []


def test_a_wrong_tile_size_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"_0.png is 32 x 32 pixels, expected 128 x 128; set data.tile_size"):
        build(folder, tmp_path, tile_size=128)


def test_duplicate_ids_are_named(folder, tmp_path):
    table = pd.read_csv(folder / "train.csv")
    pd.concat([table, table[:1]]).to_csv(folder / "train.csv", index=False)
    with pytest.raises(ValueError, match=rf"has 1 bag\(s\) in more than one row \(first: '{table['image_id'][0]}'\)"):
        build(folder, tmp_path)


def test_tiles_in_several_folders_must_be_chosen(folder, tmp_path):
    shutil.copytree(folder / "train", tmp_path / "both" / "one")
    shutil.copytree(folder / "train", tmp_path / "both" / "two")
    source = PandaTiles(tmp_path / "both", folder / "train.csv", num_tiles=4, tile_size=32)
    with pytest.raises(ValueError, match=r"has tiles in 2 folders \('one', 'two'\); give only one of them$"):
        open_or_build(source, tmp_path / "stores")


def test_new_labels_are_those_of_the_same_store(folder, tmp_path):
    one = build(folder, tmp_path)
    table = pd.read_csv(folder / "train.csv")
    table.loc[0, "isup_grade"] = 3
    table.to_csv(folder / "train.csv", index=False)
    again = build(folder, tmp_path)
    assert again.path == one.path
    changed = again.bags.set_index("bag_id")["isup_grade"] != one.bags.set_index("bag_id")["isup_grade"]
    assert changed.sum() == 1
    assert again.bags.set_index("bag_id").loc[table.loc[0, "image_id"], "isup_grade"] == 3


def test_a_folder_in_the_place_of_the_labels_is_an_error(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape("is a folder; give the CSV file in it")):
        PandaTiles(tiles=folder, labels=tmp_path).describe()


def test_a_bag_needs_a_tile(tmp_path):
    with pytest.raises(ValueError, match=re.escape("data.num_tiles is 0; it must be 1 or more")):
        PandaTiles(tiles=tmp_path, labels=tmp_path, num_tiles=0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("other", ["{slide}_01.png", "{slide}_1.PNG", "{SLIDE}_1.png", "{SLIDE}_9.png"])
def test_two_tiles_of_one_number_are_refused_by_name_and_none_is_kept(folder, tmp_path, packed, other):
    first = sorted((folder / "train").glob("*_1.png"))[0]
    slide = first.stem.removesuffix("_1")
    twin = first.with_name(other.format(slide=slide, SLIDE=slide.upper()))
    shutil.copy(first, twin)
    tiles = zip_of_all(folder / "train", tmp_path / "tiles.zip") if packed else folder / "train"
    source = PandaTiles(tiles, folder / "train.csv", num_tiles=4, tile_size=32)
    with pytest.raises(ValueError, match="which are the same name or number for many programs") as caught:
        open_or_build(source, tmp_path / "stores")
    assert "\n" not in str(caught.value)
    assert slide.upper() in str(caught.value).upper()
    assert not list((tmp_path / "stores").glob("PandaTiles-*"))


def zip_of_all(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for tile in sorted(folder.iterdir()):
            archive.write(tile, tile.name)
    return path


def test_slides_whose_names_differ_in_their_form_of_unicode_are_refused(tmp_path):
    names = [f"{slide}_{number}.png" for slide in ("\u00e4", "a\u0308") for number in range(2)]
    with pytest.raises(ValueError, match="which are the same name or number for many programs"):
        tiles_by_slide(names, tmp_path)
