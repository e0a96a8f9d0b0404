"""Slides of a few KB that state any number of pixels: refused at once; large and empty honest ones are read."""

import json

import pytest

from milpath.slides.readers.open_slide import open_slide
from tests.czi_files import mosaic, write_pieces
from tests.pyramids import tissue

# As large as the largest slides.
LARGE = 300_000


def stated_zarr(path, side, chunk=1024, stored=0):
    """Write an OME-Zarr without chunks that states a side, with a file of so many bytes."""
    (path / "0").mkdir(parents=True)
    array = {"shape": [side, side], "chunks": [chunk, chunk], "dtype": "|u1", "compressor": None, "fill_value": 240}
    (path / "0/.zarray").write_text(json.dumps(array))
    scales = {"axes": ["y", "x"], "datasets": [{"path": "0"}]}
    (path / ".zattrs").write_text(json.dumps({"multiscales": [scales]}))
    if stored:
        (path / "0/0").mkdir()
        with (path / "0/0/0").open("wb") as file:
            file.truncate(stored)
    return path


@pytest.mark.parametrize(
    ("side", "stored", "reason"),
    [
        (1 << 22, 0, "a.zarr states 4,194,304 x 4,194,304 px; slides of at most 1,048,576 px a side"),
        (600_000, 1 << 30, "a.zarr states 600,000 x 600,000 px; slides of at most"),
        (LARGE, 0, r"a.zarr states 300,000 x 300,000 px in \d\d\d bytes, too few for a picture of tissue; copy"),
        (LARGE, 1000, r"a.zarr states 300,000 x 300,000 px in 1,\d\d\d bytes"),
    ],
)
def test_a_size_that_no_slide_has_is_refused_before_a_pixel_is_read(tmp_path, side, stored, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        open_slide(stated_zarr(tmp_path / "a.zarr", side, stored=stored))
    assert "\n" not in str(caught.value)


def test_a_large_slide_and_an_empty_one_are_opened(tmp_path):
    with open_slide(stated_zarr(tmp_path / "large.zarr", LARGE, stored=1 << 20)) as slide:
        assert slide.level_sizes == ((LARGE, LARGE),)
    with open_slide(stated_zarr(tmp_path / "empty.zarr", 20_000)) as slide:
        assert slide.level_sizes == ((20_000, 20_000),)


def test_pieces_of_a_czi_that_lie_far_apart_are_refused(tmp_path):
    picture = tissue(64, 64)
    pieces = [*mosaic(picture, (1,)), *mosaic(picture, (1,), corner=(1 << 29, 1 << 29))]
    path = write_pieces(tmp_path / "far.czi", pieces, 0.5)
    with pytest.raises(ValueError, match=r"far\.czi states 536,870,976 x 536,870,976 px"):
        open_slide(path)
