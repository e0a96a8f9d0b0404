import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from milpath.data.sources.image_tiles import ImageTiles
from milpath.data.store.store_build import open_or_build


def test_real_slides_are_cut_into_the_published_tiles(shared_data, tmp_path):
    store = open_or_build(ImageTiles(shared_data / "panda_pixels", images="level2"), tmp_path)
    golden = json.loads((shared_data / "panda_pixels" / "golden_tiling.json").read_text())
    assert len(store) == 2
    for index, image_id in enumerate(store.bags["bag_id"]):
        where = store.tile_slice(index)
        hashes = [hashlib.sha256(np.asarray(tile).tobytes()).hexdigest() for tile in store.tiles[where]]
        assert hashes == golden[image_id]["tile_sha256"]
        top, _, left, _ = golden[image_id]["pad_top_bottom_left_right"]
        columns = golden[image_id]["grid_rows_cols"][1]
        rows = store.tiles_table[where]
        chosen = np.array(golden[image_id]["selected_index"])
        assert rows["x"].tolist() == (chosen % columns * 128 - left).tolist()
        assert rows["y"].tolist() == (chosen // columns * 128 - top).tolist()


def test_breast_images_become_42_or_672_tiles(breast_folder, tmp_path):
    folder = tmp_path / "few"
    (folder / "images").mkdir(parents=True)
    lines = (breast_folder / "labels.csv").read_text().splitlines()[:4]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    for line in lines[1:]:
        shutil.copy(breast_folder / "images" / f"{line.split(',')[0]}.jpg", folder / "images")
    for tile_size, count in ((128, 42), (32, 672)):
        store = open_or_build(ImageTiles(folder, rule="grid", tile_size=tile_size), tmp_path / "stores")
        assert store.num_tiles.tolist() == [count] * 3
    image = np.asarray(Image.open(folder / "images" / f"{store.bags['bag_id'][0]}.jpg").convert("RGB"))
    np.testing.assert_array_equal(store.tiles[1], image[:32, 32:64])
    assert store.tiles_table.iloc[29][["x", "y"]].tolist() == [32, 32]
    assert "tma_group" in store.bags.columns
    assert store.description["tiling"] == {"rule": "grid", "tile_size": 32}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.full((40, 50, 3), 200, np.uint8)).save(tmp_path / "data" / "images" / f"{name}.png")
    (tmp_path / "data" / "labels.csv").write_text("image_id,label\na,0\nb,1\n")
    return tmp_path / "data"


def test_small_images_are_filled_up_with_white(folder, tmp_path):
    store = open_or_build(ImageTiles(folder, num_tiles=6, tile_size=32), tmp_path / "stores")
    assert store.num_tiles.tolist() == [6, 6]
    assert (store.tiles[4:6] == 255).all()


def test_no_folder_says_what_to_put_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^no images at .*images; data.path=.* must hold images/ and labels.csv"
    ):
        open_or_build(ImageTiles(tmp_path / "nothing"), tmp_path / "stores")


def test_images_and_labels_must_match(folder, tmp_path):
    (folder / "labels.csv").write_text("image_id,label\na,0\nc,1\n")
    with pytest.raises(
        FileNotFoundError, match=r"1 of 2 bags in .* have no image in .* \(first: 'c'\); 1 bags in .* no row"
    ):
        open_or_build(ImageTiles(folder), tmp_path / "stores")
    store = open_or_build(ImageTiles(folder, on_mismatch="skip"), tmp_path / "stores")
    assert store.bags["bag_id"].tolist() == ["a"]


def test_a_damaged_image_is_named(folder, tmp_path):
    data = (folder / "images" / "b.png").read_bytes()
    (folder / "images" / "b.png").write_bytes(data[:-30])
    with pytest.raises(ValueError, match=r"^1 of 2 bags in .*: 'b' \(.*b.png is a damaged image"):
        open_or_build(ImageTiles(folder), tmp_path / "stores")
    (folder / "images" / "b.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"^1 of 2 bags in .*: 'b' \(.*b.png is not an image\); repair them, or leave"):
        open_or_build(ImageTiles(folder), tmp_path / "stores")


def test_an_unknown_rule_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^data.rule is 'random'; it must be one of darkest, grid$"):
        ImageTiles(tmp_path, rule="random")
