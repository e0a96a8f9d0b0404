"""OME-Zarr as the zarr package writes it: read as the slide, or refused by name; nothing in it is run or unpacked without bound."""

import json
import os
import random
import shutil

import numpy as np
import pytest

from milpath.records.digests import sampled_sha256_of_file, size_and_time
from milpath.slides.cut_slide import cut_slide
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_files import find_slides
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from tests.ome_zarr import write_ome_zarr
from tests.pyramids import tissue, write_pyramid

zarr = pytest.importorskip("zarr", minversion="3")
PICTURE = tissue(100, 150)
OPTIONS = TileOptions(tile_size=32, num_tiles=6, level=0)


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"axes": "cyx"},
        {"axes": "yxc"},
        {"version": "0.5"},
        {"version": "0.5", "shards": True},
        {"compressors": None},
        {"version": "0.5", "compressors": zarr.codecs.GzipCodec()},
        {"version": "0.5", "compressors": zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle")},
        {"omero": {"channels": [{"color": color} for color in ("FF0000", "00FF00", "0000FF")]}},
    ],
    ids=str,
)
def test_tiles_are_those_of_the_same_picture_as_a_tiff(tmp_path, words):
    path = write_ome_zarr(tmp_path / "case.ome.zarr", PICTURE, **words)
    same = write_pyramid(tmp_path / "case.tif", PICTURE)
    with open_slide(path) as slide, open_slide(same) as expected:
        assert slide.level_sizes == expected.level_sizes == ((600, 400), (300, 200), (150, 100))
        assert slide.microns_per_pixel == 0.5
        for level, region in ((0, (130, 90, 77, 101)), (1, (0, 0, 300, 200)), (2, (149, 99, 1, 1))):
            np.testing.assert_array_equal(slide.read_region(level, *region), expected.read_region(level, *region))
    bag, reference = cut_slide(path, OPTIONS), cut_slide(same, OPTIONS)
    np.testing.assert_array_equal(bag.pixels, reference.pixels)


def test_sixteen_bits_and_grey_are_read(tmp_path):
    deep = write_ome_zarr(tmp_path / "deep.zarr", PICTURE.astype(np.uint16) * 257, factors=(1,), version="0.5")
    grey = write_ome_zarr(tmp_path / "grey.zarr", PICTURE, factors=(1,), axes="yx")
    with open_slide(deep) as slide, open_slide(grey) as other:
        np.testing.assert_array_equal(slide.read(0, 0, 0, 150, 100), PICTURE)
        np.testing.assert_array_equal(other.read(0, 0, 0, 150, 100), PICTURE[:, :, :1].repeat(3, 2))


def test_a_store_is_built_and_a_changed_chunk_is_cut_again(tmp_path):
    path = write_ome_zarr(tmp_path / "slides/case.zarr", PICTURE)
    write_pyramid(tmp_path / "slides/other.tif", PICTURE)
    files = find_slides(tmp_path / "slides")
    assert (list(files.found), files.broken, files.ignored) == (["case", "other"], {}, [])
    assert list(find_slides(path).found) == ["case"]
    build_slide_store(tmp_path / "slides", tmp_path / "store", OPTIONS, num_workers=1)
    build_slide_store(tmp_path / "slides", tmp_path / "store", OPTIONS, num_workers=1)
    before = sampled_sha256_of_file(path), size_and_time(path)
    moved = shutil.copytree(path, tmp_path / "elsewhere/case.zarr")
    assert sampled_sha256_of_file(moved) == before[0]
    chunk = next(iter((path / "2").glob("0.0.*")))
    chunk.write_bytes(chunk.read_bytes() + b"\0")
    assert sampled_sha256_of_file(path) != before[0]
    assert size_and_time(path)[0] == before[1][0] + 1
    with pytest.raises(FileExistsError, match=r"was cut from another case\.zarr"):
        build_slide_store(tmp_path / "slides", tmp_path / "store", OPTIONS, num_workers=1)


def test_of_the_images_of_a_converter_the_slide_is_read_and_not_its_label(tmp_path):
    path = tmp_path / "case.zarr"
    group = zarr.create_group(path, zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    for number, factor in enumerate((1, 2)):
        write_ome_zarr(path / str(number), PICTURE, factors=(factor,))
    with pytest.raises(ValueError, match="several images, and no OME/METADATA"):
        open_slide(path)
    (path / "OME").mkdir()
    pixels = '<Pixels SizeX="{}" SizeY="{}" SizeC="3"><Channel SamplesPerPixel="3"/></Pixels>'
    images = (("label", 150, 100), ("slide", 300, 200))
    named = "".join(f'<Image Name="{name}">{pixels.format(*size)}</Image>' for name, *size in images)
    (path / "OME/METADATA.ome.xml").write_text(f"<OME>{named}</OME>")
    with open_slide(path) as slide:
        assert slide.level_sizes == ((300, 200),)


def edit(name, change):
    def edited(path):
        meta = json.loads((path / name).read_text())
        change(meta)
        (path / name).write_text(json.dumps(meta))

    return edited


REFUSED = {
    "a codec that runs code": (edit("0/.zarray", lambda m: m.update(compressor={"id": "pickle"})), "codec 'pickle' is not read"),
    "a filter": (edit("0/.zarray", lambda m: m.update(filters=[{"id": "pickle"}])), "filters are not read"),
    "objects": (edit("0/.zarray", lambda m: m.update(dtype="|O")), "samples of kind '|O'"),
    "floats": (edit("0/.zarray", lambda m: m.update(dtype="<f4", fill_value="NaN")), "samples of kind '<f4'"),
    "a huge chunk": (edit("0/.zarray", lambda m: m.update(chunks=[1, 1, 1, 10**6, 10**6])), "out of bounds"),
    "a huge level": (edit("0/.zarray", lambda m: m.update(shape=[1, 3, 1, 10**9, 10**9])), "out of bounds"),
    "a path outside": (
        edit(".zattrs", lambda m: m["multiscales"][0]["datasets"][0].update(path="../other")), "lies outside of the folder",
    ),
    "a growing pyramid": (edit(".zattrs", lambda m: m["multiscales"][0]["datasets"].reverse()), "does not belong to"),
    "no axes that are known": (edit(".zattrs", lambda m: m["multiscales"][0].update(axes=["a", "b"])), "its axes are"),
    "two images": (edit(".zattrs", lambda m: m["multiscales"].append({})), "holds 2 images"),
    "focal planes": (
        lambda path: [edit(f"{n}/.zarray", lambda m: m["shape"].__setitem__(2, 5))(path) for n in range(3)], "5 focal planes",
    ),
    "fluorescence": (
        edit(".zattrs", lambda m: m.update(omero={"channels": [{"label": name} for name in ("DAPI", "CD3", "CD8")]})),
        r"3 channels \(DAPI, CD3, CD8\) instead of red, green and blue",
    ),
    "no metadata": (lambda path: (path / ".zattrs").unlink(), "zarr.json is missing or damaged"),
    "deep JSON": (lambda path: (path / ".zattrs").write_text("[" * 100_000), "missing or damaged"),
    "an array of another folder": (lambda path: shutil.rmtree(path / "0"), "missing or damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_one_plane_of_a_slide_is_refused_in_one_line(tmp_path, name):
    change, message = REFUSED[name]
    path = write_ome_zarr(tmp_path / "case.zarr", PICTURE)
    change(path)
    with pytest.raises(ValueError, match=message.replace("|", r"\|")) as caught:
        open_slide(path)
    assert "\n" not in str(caught.value)
    assert "case.zarr" in str(caught.value)


def test_a_chunk_that_unpacks_to_more_than_it_says_is_damaged_and_one_that_is_missing_is_said(tmp_path):
    path = write_ome_zarr(
        tmp_path / "case.zarr", PICTURE, version="0.5", factors=(1,), compressors=zarr.codecs.GzipCodec()
    )
    import gzip

    chunk = path / "0/c/0/0/0/0/0"
    chunk.write_bytes(gzip.compress(bytes(1 << 26)))
    with (
        open_slide(path) as slide,
        pytest.raises(ValueError, match=r"case\.zarr cannot be read at level 0: chunk 0 is dam"),
    ):
        slide.read(0, 0, 0, 150, 100)
    chunk.unlink()
    with open_slide(path) as slide:
        assert slide.read(0, 0, 0, 1, 1).tolist()[0][0][0] == 0
        assert "pieces of level 0 are not stored" in slide.notes[0]


@pytest.mark.parametrize("name", ["0/c/0/0/0/0/0", "0/zarr.json", "zarr.json"])
def test_a_pipe_in_place_of_a_file_of_the_folder_is_refused_and_not_waited_for(tmp_path, name):
    path = write_ome_zarr(tmp_path / "case.zarr", PICTURE, version="0.5", factors=(1,))
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(ValueError, match=r"case\.zarr cannot be read"), open_slide(path) as slide:
        slide.read(0, 0, 0, 150, 100)


@pytest.mark.parametrize("words", [{}, {"version": "0.5", "shards": True}], ids=str)
def test_random_damage_is_one_line_or_the_same_size(tmp_path, words):
    path = write_ome_zarr(tmp_path / "case.zarr", PICTURE, factors=(2, 1), **words)
    said: list[str] = []
    files, source = sorted(p for p in path.rglob("*") if p.is_file()), random.Random(0)
    for _ in range(150):
        file = source.choice(files)
        whole = file.read_bytes()
        content = bytearray(whole)
        for _ in range(source.randrange(1, 4)):
            content[source.randrange(len(content))] = source.randrange(256)
        file.write_bytes(content[: source.choice((len(content), source.randrange(len(content))))])
        try:
            with open_slide(path) as slide:
                slide.read(0, 0, 0, *slide.level_sizes[0])
        except ValueError as error:
            said.append(str(error))
        file.write_bytes(whole)
    assert said
    assert all("case.zarr" in line and "\n" not in line for line in said)


def test_a_header_of_a_chunk_that_states_more_than_there_is_never_reaches_the_decoder(tmp_path):
    compressor = zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle")
    path = write_ome_zarr(tmp_path / "case.zarr", PICTURE, version="0.5", factors=(1,), compressors=compressor)
    chunk = path / "0/c/0/0/0/0/0"
    content = bytearray(chunk.read_bytes())
    content[12:16] = (1 << 30).to_bytes(4, "little")  # the decoder would read beyond the chunk
    chunk.write_bytes(content)
    with open_slide(path) as slide, pytest.raises(ValueError, match="its header states 1,073,741,824 bytes"):
        slide.read(0, 0, 0, 150, 100)
