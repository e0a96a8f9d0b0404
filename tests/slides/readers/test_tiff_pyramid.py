"""Everything a TIFF can hold beside or instead of the levels of one slide: read as the slide, or refused by name."""

import re
import time

import numpy as np
import pytest
import tifffile

from milpath.slides.cut_slide import cut_slide
from milpath.slides.readers.ome_xml import ome_images
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.readers.stated_resolution import microns_in
from milpath.slides.tiling_options import TileOptions
from tests.pyramids import tissue

RGB = tissue(256, 512)
PLANES = np.moveaxis(RGB, 2, 0)
TILES = {"tile": (64, 64), "compression": "zlib"}


def read(path, level=0):
    with open_slide(path) as slide:
        return slide.level_sizes, slide.read(level, 0, 0, *slide.level_sizes[level])


def refuse(path, match):
    with pytest.raises(ValueError, match=match) as caught:
        cut_slide(path, TileOptions(tile_size=64, num_tiles=4))
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "channels",
    [
        {},
        {"Channel": {"Name": ["Red", "Green", "Blue"]}},
        {"Channel": {"Name": ["R", "G", "B"]}},
        {"Channel": {"Name": ["Channel 0", "Channel 1", "Channel 2"]}},
        {"Channel": {"Color": [-16776961, 16711935, 65535]}},
    ],
    ids=["unnamed", "colours", "letters", "numbers", "as values"],
)
@pytest.mark.parametrize("levels", [1, 3])
def test_red_green_and_blue_as_three_planes_are_one_slide_in_colour(tmp_path, channels, levels):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(
            PLANES, photometric="minisblack", subifds=levels - 1, metadata={"axes": "CYX", **channels}, **TILES
        )
        for level in range(1, levels):
            small = np.ascontiguousarray(PLANES[:, :: 2**level, :: 2**level])
            writer.write(small, photometric="minisblack", subfiletype=1, **TILES)
    for level in range(levels):
        sizes, pixels = read(path, level)
        assert len(sizes) == levels
        np.testing.assert_array_equal(pixels, RGB[:: 2**level, :: 2**level])


@pytest.mark.parametrize("names", [["DAPI", "FITC", "TRITC"], ["Blue", "Green", "Red"], ["CD8", "", ""]])
def test_three_channels_of_fluorescence_are_refused_with_their_names(tmp_path, names):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "CYX", "Channel": {"Name": names}}
    tifffile.imwrite(path, PLANES, ome=True, photometric="minisblack", metadata=metadata, **TILES)
    refuse(path, f"3 channels \\({names[0]}")


@pytest.mark.parametrize(
    ("axes", "shape", "reason"),
    [
        ("ZYX", (5, 256, 512), "5 focal planes"),
        ("TYX", (4, 256, 512), "4 time points"),
        ("ZYXS", (3, 256, 512, 3), "3 focal planes"),
        ("CYX", (2, 256, 512), "2 channels"),
        ("CYX", (5, 256, 512), "5 channels"),
        ("TZCYX", (2, 3, 3, 256, 512), "3 focal planes"),
    ],
)
def test_stacks_of_an_ome_tiff_are_refused_by_what_they_are(tmp_path, axes, shape, reason):
    path = tmp_path / "a.ome.tif"
    pixels = (
        np.broadcast_to(RGB[..., :1].reshape((1,) * (len(shape) - 2) + (256, 512)), shape) if shape[-1] != 3 else None
    )
    pixels = np.stack([RGB] * shape[0]) if pixels is None else np.ascontiguousarray(pixels)
    photometric = "rgb" if shape[-1] == 3 else "minisblack"
    tifffile.imwrite(path, pixels, ome=True, photometric=photometric, metadata={"axes": axes}, **TILES)
    refuse(path, reason)


def test_stacks_without_ome_are_refused_by_their_number_of_images(tmp_path):
    for name, pixels, words in (
        ("rgb.tif", np.stack([RGB, RGB]), {"photometric": "rgb"}),
        ("planes.tif", PLANES, {"photometric": "minisblack"}),
    ):
        with tifffile.TiffWriter(tmp_path / name) as writer:
            for plane in pixels:
                writer.write(plane, metadata=None, **words, **TILES)
        refuse(
            tmp_path / name, rf"holds {len(pixels)} images of 512 x 256 px \(channels, focal planes or time points\)"
        )


@pytest.mark.parametrize(
    ("axes", "reason"), [("CYX", "3 channels"), ("ZYX", "3 focal planes"), ("TYX", "3 time points")]
)
def test_a_stack_of_imagej_is_refused_even_where_it_has_one_page(tmp_path, axes, reason):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANES, imagej=True, photometric="minisblack", metadata={"axes": axes})
    refuse(path, f"ImageJ stack of {reason}")


def test_channels_within_a_pixel_are_refused_unless_they_are_a_colour(tmp_path):
    for samples in (2, 4, 5):
        pixels = np.repeat(RGB[..., :1], samples, axis=2)
        path = tmp_path / f"{samples}.tif"
        extra = ["unspecified"] * (samples - 1)
        tifffile.imwrite(
            path, pixels, photometric="minisblack", planarconfig="contig", extrasamples=extra, metadata=None
        )
        refuse(path, f"{samples} (channels|samples) per pixel")


def test_a_volume_in_one_page_is_refused_as_one(tmp_path):
    path = tmp_path / "volume.tif"
    tifffile.imwrite(
        path, np.stack([RGB[..., 0]] * 16), photometric="minisblack", volumetric=True, tile=(16, 64, 64), metadata=None
    )
    refuse(path, "volume of 16 planes")


@pytest.mark.parametrize("position", [0, 1, 2])
def test_label_macro_and_thumbnail_are_never_the_slide_wherever_they_stand(tmp_path, position):
    path = tmp_path / "a.ome.tif"
    images = [("label image", RGB[:200, :200]), ("macro image", RGB[:240, :100])]
    images.insert(position, ("", RGB.repeat(2, 0).repeat(2, 1)))
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, pixels in images:
            metadata = {"axes": "YXS"} | ({"Name": name} if name else {})
            writer.write(np.ascontiguousarray(pixels), photometric="rgb", metadata=metadata, **TILES)
    sizes, pixels = read(path)
    assert sizes == ((1024, 512),)
    np.testing.assert_array_equal(pixels, RGB.repeat(2, 0).repeat(2, 1))


def test_a_thumbnail_before_the_slide_is_not_the_slide(tmp_path):
    large = RGB.repeat(4, 0).repeat(4, 1)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for pixels in (RGB, large, RGB.repeat(2, 0).repeat(2, 1), RGB[:64, :64]):
            writer.write(pixels, photometric="rgb", metadata=None, **TILES)
    sizes, pixels = read(tmp_path / "a.tif")
    assert sizes == ((2048, 1024), (1024, 512), (512, 256))
    np.testing.assert_array_equal(pixels, large)


def test_two_pieces_of_tissue_in_one_file_are_refused_with_their_sizes(tmp_path):
    pieces = {"region 1": RGB, "region 2": np.ascontiguousarray(RGB[:200, :300])}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for name, pixels in pieces.items():
            writer.write(pixels, photometric="rgb", metadata={"axes": "YXS", "Name": name}, **TILES)
    refuse(tmp_path / "a.ome.tif", r"2 images that may be the slide \(region 1 512 x 256, region 2 300 x 200\)")
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for pixels in pieces.values():
            writer.write(pixels, photometric="rgb", metadata=None, **TILES)
    refuse(tmp_path / "b.tif", r"2 images that may be the slide \(512 x 256, 300 x 200 px\)")


def test_the_pages_of_aperio_are_read_as_before(tmp_path):
    large = RGB.repeat(4, 0).repeat(4, 1)
    words = {"photometric": "rgb", "metadata": None, "software": False}
    with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
        writer.write(large, description="Aperio Image Library v11\r\n2048x1024|MPP = 0.25", **words, **TILES)
        writer.write(RGB, description="Aperio Image Library v11\r\nthumbnail", rowsperstrip=64, **words)
        writer.write(RGB.repeat(2, 0).repeat(2, 1), description="Aperio Image Library v11\r\n", **words, **TILES)
        writer.write(RGB[:, :300], description="Aperio Image Library v11\r\nlabel 300x256", subfiletype=1, **words)
        writer.write(RGB[:100], description="Aperio Image Library v11\r\nmacro 512x100", subfiletype=9, **words)
    assert read(tmp_path / "a.svs")[0] == ((2048, 1024), (1024, 512))


def test_a_word_in_the_description_of_a_slide_makes_it_no_label(tmp_path):
    large = RGB.repeat(2, 0).repeat(2, 1)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(large, photometric="rgb", metadata=None, description="study of a label preview", **TILES)
        writer.write(RGB, photometric="rgb", metadata=None, subfiletype=1, **TILES)
    assert read(tmp_path / "a.tif")[0] == ((1024, 512), (512, 256))


def with_xml(path, xml):
    tifffile.imwrite(path, RGB, photometric="rgb", metadata=None, description=xml, **TILES)
    return path


def ome(pixels="", data='<TiffData IFD="0"/>', size_c=3):
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels SizeX="512" SizeY="256" SizeC="{size_c}" SizeZ="1" SizeT="1" {pixels}>'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="3"/>{data}</Pixels></Image></OME>'
    )


def test_planes_in_other_files_are_refused_and_a_renamed_file_is_read(tmp_path):
    own = '<TiffData IFD="0"><UUID FileName="before.ome.tif">urn:uuid:1</UUID></TiffData>'
    np.testing.assert_array_equal(read(with_xml(tmp_path / "renamed.ome.tif", ome(data=own)))[1], RGB)
    both = own + own.replace("before", "other")
    refuse(with_xml(tmp_path / "part.ome.tif", ome(data=both)), "planes lie in several files")
    refuse(with_xml(tmp_path / "lost.ome.tif", ome(data='<TiffData IFD="7"/>')), "lists page 7, but it has 1 pages")


@pytest.mark.parametrize(
    "xml",
    [
        "<OME><Image>",
        "<OME></OME>",
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><OME><Image><Pixels SizeX="&a;"/></Image></OME>',
        "<OME><Image><Pixels/></Image></OME>",
    ],
    ids=["cut off", "empty", "entities", "no size"],
)
def test_broken_ome_xml_does_not_hide_the_pages(tmp_path, xml):
    np.testing.assert_array_equal(read(with_xml(tmp_path / "a.ome.tif", xml))[1], RGB)


def test_planes_that_are_only_listed_take_no_memory():
    data = '<TiffData IFD="0" PlaneCount="999999999"/>' * 1000
    image = f'<Image><Pixels SizeX="64" SizeY="64" SizeC="3">{data}</Pixels></Image>'
    images = ome_images(f'<OME xmlns="x">{image * 20}</OME>')
    assert sum(len(image.pages) for image in images) == 20 * 1000 * 3
    assert images[0].pages[:3] == (0, 1, 2)


def test_smaller_levels_that_are_one_page_a_million_times_are_read_once(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(RGB, subifds=2, metadata=None, **TILES)
        file.write(RGB[::2, ::2], metadata=None, **TILES)
        file.write(RGB[::4, ::4], metadata=None, **TILES)
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["SubIFDs"]
        first, entry = tag.value[0], tag.offset
    with path.open("r+b") as file:
        place = file.seek(0, 2)
        file.write(first.to_bytes(8, "little") * 1_000_000)
        file.seek(entry + 4)
        file.write((1_000_000).to_bytes(8, "little") + place.to_bytes(8, "little"))
    start = time.process_time()
    assert read(path)[0] == ((512, 256), (256, 128))
    assert time.process_time() - start < 10


def test_a_billion_channels_are_refused_without_a_list_of_them(tmp_path):
    xml = '<OME xmlns="x"><Image><Pixels SizeX="64" SizeY="64" SizeC="999999999"/></Image></OME>'
    picture = np.zeros((64, 64), np.uint8)
    tifffile.imwrite(tmp_path / "a.tiff", picture, description=xml, metadata=None)
    with pytest.raises(ValueError, match="it holds 999999999 channels instead of red, green and blue"):
        open_slide(tmp_path / "a.tiff")


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ('PhysicalSizeX="0.499" PhysicalSizeY="0.499"', 0.499),
        ('PhysicalSizeX="499" PhysicalSizeXUnit="nm" PhysicalSizeY="499" PhysicalSizeYUnit="nm"', 0.499),
        ('PhysicalSizeX="0.000499" PhysicalSizeXUnit="mm" PhysicalSizeY="0.000499" PhysicalSizeYUnit="mm"', 0.499),
        ('PhysicalSizeX="0.499" PhysicalSizeXUnit="&#181;m"', 0.499),
        ('PhysicalSizeX="0.499" PhysicalSizeXUnit="pixel"', None),
        ('PhysicalSizeX="0.499" PhysicalSizeXUnit="mm"', None),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="reference frame"', None),
        ("", None),
    ],
)
def test_the_resolution_of_ome_xml_is_read_with_its_unit(tmp_path, stated, expected):
    with open_slide(with_xml(tmp_path / "a.ome.tif", ome(stated))) as slide:
        assert slide.microns_per_pixel == expected


# Microns of every unit of length of OME (UnitsLength in its schema).
OME_UNITS = {
    "Ym": 1e30, "Zm": 1e27, "Em": 1e24, "Pm": 1e21, "Tm": 1e18, "Gm": 1e15, "Mm": 1e12, "km": 1e9, "hm": 1e8, "dam": 1e7,
    "m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "pm": 1e-6, "fm": 1e-9, "am": 1e-12, "zm": 1e-15,
    "ym": 1e-18, "Å": 1e-4, "thou": 25.4, "li": 25_400 / 12, "in": 25_400.0, "ft": 304_800.0, "yd": 914_400.0,
    "mi": 1_609_344_000.0, "ua": 149_597_870_700e6, "ly": 9_460_730_472_580_800e6, "pc": 3.0856775814913673e22,
    "pt": 25_400 / 72,
}  # fmt: skip


@pytest.mark.parametrize("unit", OME_UNITS)
def test_every_unit_of_length_of_ome_is_read(tmp_path, unit):
    stated = f"{0.499 / OME_UNITS[unit]:.17g}"
    written = unit.encode("ascii", "xmlcharrefreplace").decode()
    sides = " ".join(f'PhysicalSize{axis}="{stated}" PhysicalSize{axis}Unit="{written}"' for axis in "XY")
    with open_slide(with_xml(tmp_path / "a.ome.tif", ome(sides))) as slide:
        assert slide.microns_per_pixel == pytest.approx(0.499, rel=1e-6)


@pytest.mark.parametrize(
    "unit", ["\u03bcm", "\u212b", "A\u030a", " nm ", "MM", "Micron", "micrometre", "decimeter", "picometer"]
)
def test_other_spellings_of_a_unit_are_read(unit):
    assert microns_in(1.0, unit) is not None


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "", "parsecs of cheese", "min"])
def test_what_is_no_length_is_none(unit):
    assert microns_in(1.0, unit) is None


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"), [("micron", 2.0, 0.5), ("um", 2.0, 0.5), ("mm", 2000.0, 0.5), ("inch", 50_800.0, 0.5), ("pixel", 1.0, None)]
)  # fmt: skip
def test_the_resolution_of_imagej_is_read_with_its_unit(tmp_path, unit, per_unit, expected):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})
    with open_slide(path) as slide:
        assert slide.microns_per_pixel == (None if expected is None else pytest.approx(expected))


def test_a_piece_without_bytes_is_white_and_noted(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", metadata=None, tile=(64, 64))
    erase(path, [3])
    with open_slide(path) as slide:
        pixels = slide.read(0, 0, 0, 512, 256)
        assert slide.notes == ["1 of 32 pieces of level 0 have no data in the file and are white"]
    expected = RGB.copy()
    expected[:64, 192:256] = 255
    np.testing.assert_array_equal(pixels, expected)


def test_a_file_that_lost_most_of_its_pieces_is_damaged(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", metadata=None, tile=(64, 64))
    erase(path, range(20))
    refuse(path, "20 of its 32 segments have no data; copy or download it again")


def erase(path, indices):
    """Let pieces have a place but no bytes, as Aperio's scanners write a piece that they lost."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["TileByteCounts"]
    for index in indices:
        size = tag.valuebytecount // tag.count
        data[tag.valueoffset + size * index : tag.valueoffset + size * (index + 1)] = bytes(size)
    path.write_bytes(data)


def test_pictures_of_several_frames_are_refused(tmp_path):
    from PIL import Image

    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for suffix in ("png", "webp"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        refuse(path, "holds 2 images, and a slide is one")


def test_every_refusal_says_what_to_do(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.stack([RGB] * 2), ome=True, photometric="rgb", metadata={"axes": "ZYXS"}, **TILES)
    with pytest.raises(ValueError) as caught:
        open_slide(path)
    assert re.search(r"write the one to use as a pyramid of its own \(bfconvert or QuPath", str(caught.value))
