"""A thousand damaged copies of a TIFF pyramid and of an SVS: each one is read, or refused with its name and a reason."""

import io
import random
import signal
import time
from collections import Counter

import numpy as np
import pytest
import tifffile

from milpath.slides.cut_slide import cut_slide
from milpath.slides.tiling_options import TileOptions
from tests.drawn_data import draw_scan
from tests.pyramids import tissue

# Reads thousands of slides.
pytestmark = pytest.mark.command

NUM_DAMAGES = 1000
LONGEST_SECONDS = 20


def damage(original, spans, random_):
    """Return a list of (offset, bytes) to lay over a file, and the length it is cut to."""
    size, kind = len(original), random_.choice(["few", "few", "many", "zeros", "ones", "copy", "cut"])
    if kind == "cut":
        return [], random_.randrange(1, size)
    if kind in ("few", "many"):
        number = random_.randint(1, 4) if kind == "few" else random_.randint(16, 256)
        return [(place(original, spans, random_), bytes([random_.randrange(256)])) for _ in range(number)], size
    length, start = random_.randint(2, 64), place(original, spans, random_)
    length = min(length, size - start)
    if kind == "copy":
        other = random_.randrange(max(1, size - length))
        return [(start, original[other : other + length])], size
    return [(start, bytes([0 if kind == "zeros" else 255]) * length)], size


def place(original, spans, random_):
    """Return an offset: in the pixels, or where the tags and their values lie, which are few bytes that decide everything."""
    where = random_.random()
    if where < 0.35:
        return random_.randrange(len(original))
    if where < 0.45:
        return random_.randrange(16)
    start, length = random_.choice(spans)
    return min(start + random_.randrange(length), len(original) - 1)


def tag_spans(original):
    """Return where the tags of all pages lie: their 12 bytes, and their values where these lie elsewhere."""
    with tifffile.TiffFile(io.BytesIO(original)) as file:
        tags = [tag for page in file.pages for tag in page.tags]
    values = [(tag.valueoffset, max(1, min(tag.valuebytecount, 512))) for tag in tags]
    return [(tag.offset, 12) for tag in tags] + values


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Small, so that a thousand are cheap."""
    folder = tmp_path_factory.mktemp("damaged")
    pixels = tissue(384, 256)
    with tifffile.TiffWriter(folder / "pyramid.tiff") as writer:
        for factor in (16, 4, 1):
            level = pixels[:: 16 // factor, :: 16 // factor]
            writer.write(
                level, tile=(128, 128), photometric="rgb", compression="jpeg", metadata=None,
                resolution=(20_000 / (16 // factor),) * 2, resolutionunit="CENTIMETER", subfiletype=int(factor != 16),
            )  # fmt: skip
    draw_scan(folder / "scan.svs", 480, 480, thumbnail=True)
    return folder


@pytest.mark.parametrize("name", ["pyramid.tiff", "scan.svs"])
def test_a_thousand_damaged_slides_are_read_or_refused_by_name(originals, tmp_path, name):
    """Neither crash, hang, warning nor a bag without content."""
    original = (originals / name).read_bytes()
    options = TileOptions(tile_size=64, num_tiles=8, level=0)
    spans = tag_spans(original)
    expected = cut_slide(originals / name, options).pixels
    path = tmp_path / name
    outcomes: Counter[str] = Counter()
    messages = []
    for seed in range(NUM_DAMAGES):
        changes, length = damage(original, spans, random.Random(seed))
        data = bytearray(original)
        for offset, new in changes:
            data[offset : offset + len(new)] = new
        path.write_bytes(data[:length])
        signal.alarm(LONGEST_SECONDS)  # a hang ends the test run here, with the place where it hung
        start = time.perf_counter()
        try:
            pixels = cut_slide(path, options).pixels
        except ValueError as error:
            outcomes["refused"] += 1
            messages.append((seed, str(error)))
        else:
            outcomes["equal" if np.array_equal(pixels, expected) else "changed"] += 1
            assert pixels.shape[1:] == (64, 64, 3), f"seed {seed}"
            assert pixels.min() < 200, f"seed {seed}: a bag of white"
        finally:
            signal.alarm(0)
        assert time.perf_counter() - start < LONGEST_SECONDS, f"seed {seed}"
    for seed, message in messages:
        assert name in message, f"seed {seed}: {message}"
        assert "\n" not in message, f"seed {seed}: {message}"
        assert len(message) > len(name) + 10, f"seed {seed}: {message}"
    # The damage is neither so light that nothing is noticed nor so heavy that nothing is read.
    assert outcomes["refused"] > 150, outcomes
    assert outcomes["equal"] > 50, outcomes
