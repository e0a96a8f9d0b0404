import numpy as np
import pytest
from PIL import Image

from milpath.data.sources.colon_cancer import ColonCancer
from milpath.data.store.store_build import open_or_build


@pytest.fixture
def folder(tmp_path):
    """A small example in the form of the real set: 500 x 500 px JPEG images, 1 to 796 nuclei."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "colon"
    (folder / "images").mkdir(parents=True)
    nuclei, labels = ["image_id,type,x,y"], ["image_id,label"]
    for name, count, label in (("img1", 796, 1), ("img2", 1, 0), ("img3", 40, 0)):
        image = rng.integers(0, 256, (500, 500, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{name}.jpg", quality=95)
        for number in range(count):
            kind = "epithelial" if label and number % 3 == 0 else ("fibroblast", "inflammatory", "others")[number % 3]
            x, y = rng.uniform(0, 500, 2)
            nuclei.append(f"{name},{kind},{x:.2f},{y:.2f}")
        labels.append(f"{name},{label}")
    nuclei[797] = "img2,others,0.5,499.5"
    (folder / "nuclei.csv").write_text("\n".join(nuclei) + "\n")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    return folder


def test_a_patch_lies_round_each_nucleus(folder, tmp_path):
    store = open_or_build(ColonCancer(folder), tmp_path / "stores")
    assert store.num_tiles.tolist() == [796, 1, 40]
    assert store.tile_shape == (27, 27, 3)
    image = np.asarray(Image.open(folder / "images" / "img1.jpg"))
    rows = (folder / "nuclei.csv").read_text().splitlines()[1:797]
    inside = 0
    for index, row in enumerate(rows):
        x, y = (int(float(value)) for value in row.split(",")[2:])
        table = store.tiles_table.iloc[index]
        assert (table["x"], table["y"]) == (x - 13, y - 13)
        assert table["tile_label"] == (row.split(",")[1] == "epithelial")
        if 13 <= x < 487 and 13 <= y < 487:
            np.testing.assert_array_equal(store.tiles[index], image[y - 13 : y + 14, x - 13 : x + 14])
            inside += 1
    assert inside > 600


def test_beyond_the_border_it_is_white(folder, tmp_path):
    store = open_or_build(ColonCancer(folder), tmp_path / "stores")
    patch = store.tiles[796]
    assert (patch[14:] == 255).all()
    assert (patch[:, :13] == 255).all()
    image = np.asarray(Image.open(folder / "images" / "img2.jpg"))
    np.testing.assert_array_equal(patch[:14, 13:], image[486:, :14])


def edit(path, change):
    path.write_text(change(path.read_text()))


def test_an_image_without_a_nucleus_is_named(folder, tmp_path):
    edit(folder / "nuclei.csv", lambda text: text.replace("img2,others,0.5,499.5\n", ""))
    with pytest.raises(
        ValueError,
        match=r"^1 of 3 images in .* have no nucleus in nuclei.csv \(first: 'img2'\); a bag needs at least one",
    ):
        open_or_build(ColonCancer(folder), tmp_path / "stores")


def test_a_nucleus_outside_of_its_image_is_named(folder, tmp_path):
    edit(folder / "nuclei.csv", lambda text: text.replace("img2,others,0.5,499.5", "img2,others,612,10"))
    with pytest.raises(
        ValueError, match=r"^nucleus at x=612, y=10 is outside of image 'img2' \(500 x 500\); check nuclei.csv$"
    ):
        open_or_build(ColonCancer(folder), tmp_path / "stores")


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^no colon images at .*; set data.path=FOLDER with images/, nuclei.csv"
    ):
        open_or_build(ColonCancer(tmp_path / "nothing"), tmp_path / "stores")
    (folder / "images" / "img3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"^image 'img3' of labels.csv is not in "):
        open_or_build(ColonCancer(folder), tmp_path / "stores")
    (folder / "nuclei.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"^no table of nuclei at "):
        open_or_build(ColonCancer(folder), tmp_path / "stores")


def test_a_missing_column_is_named(folder, tmp_path):
    edit(folder / "nuclei.csv", lambda text: text.replace("image_id,type,x,y", "image_id,kind,x,y"))
    with pytest.raises(ValueError, match=r"nuclei.csv has no column 'type'; it has image_id, kind, x, y$"):
        open_or_build(ColonCancer(folder), tmp_path / "stores")
