import io
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from milpath.checks.near_duplicates import MAX_DISTANCE, bit_counts, connected, counts_by_table, near_pairs
from milpath.checks.perceptual_hash import (
    hash_of_text,
    is_blank,
    orientations,
    perceptual_hash,
    steady_bits,
    text_of_hash,
)
from tests.drawn_data import biopsy


def jpeg(picture, quality):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


# What happens to a slide between two exports: another compression, another size, turned, mirrored, another lamp or stain.
CHANGES = {
    "recompressed": lambda picture: jpeg(picture, 40),
    "half the size": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "turned by 90": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "turned by 270, JPEG": lambda picture: jpeg(picture.transpose(Image.Transpose.ROTATE_270), 60),
    "turned by 180": lambda picture: picture.transpose(Image.Transpose.ROTATE_180),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda picture: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "transposed": lambda picture: picture.transpose(Image.Transpose.TRANSPOSE),
    "transverse": lambda picture: picture.transpose(Image.Transpose.TRANSVERSE),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.8),
    "another stain": lambda picture: Image.fromarray((np.asarray(picture) * [1, 0.8, 0.95]).astype(np.uint8)),
}


@pytest.fixture(scope="module", params=["drawn", "real"])
def pictures(request):
    if request.param == "drawn":
        return [Image.fromarray(biopsy(200, 260, seed)) for seed in range(8)]
    folder = request.getfixturevalue("shared_data") / "glas" / "images"
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("test*.jpg"))[:24]]


def hashes_of(pictures):
    return np.stack([perceptual_hash(np.asarray(picture)) for picture in pictures])


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_slide_is_found_and_nothing_else(pictures, change):
    changed = hashes_of([*pictures, CHANGES[change](pictures[2])])
    (pair,) = near_pairs(changed)
    assert pair[:2] == (2, len(pictures))
    assert pair.turned == change.startswith(("turned", "mirrored", "upside", "trans"))


def test_no_two_different_pictures_are_near(pictures):
    """Drawn biopsies all have one outline: they are the hardest to tell apart."""
    assert near_pairs(hashes_of(pictures)) == []
    if len(pictures) > 8:  # real tissue has room to spare
        assert near_pairs(hashes_of(pictures), max_distance=2 * MAX_DISTANCE) == []


def test_hashes_of_turned_pictures_are_those_of_their_orientations():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8))
    turned = orientations(hashes_of([picture]))[:, 0]
    distances = {
        change: bit_counts(turned ^ hashes_of([CHANGES[change](picture)])).sum(axis=1)
        for change in CHANGES
        if "turned by 90" in change
        or change in ("transposed", "transverse", "mirrored", "upside down", "turned by 180")
    }
    # A coefficient near 0 may change its sign by rounding.
    assert max(found.min() for found in distances.values()) <= 4
    assert len({int(found.argmin()) for found in distances.values()}) == len(distances)
    assert len(set(steady_bits(turned[:4]).tolist())) == 1


def test_a_hash_survives_its_text_and_glass_is_blank():
    hashed = perceptual_hash(biopsy(100, 100))
    assert (hash_of_text(text_of_hash(hashed)) == hashed).all()
    with pytest.raises(ValueError, match="a hash has 64 hexadecimal digits, not 2"):
        hash_of_text("ff")
    assert is_blank(np.full((50, 50, 3), 243, np.uint8))
    assert not is_blank(biopsy(100, 100))


def test_bits_are_counted_alike_with_and_without_numpy_2():
    words = np.random.default_rng(0).integers(0, 2**63, (3, 4), dtype=np.uint64)
    expected = [[int(word).bit_count() for word in row] for row in words]
    assert counts_by_table(words).tolist() == expected
    assert bit_counts(words).tolist() == expected


def test_all_pairs_of_thousands_of_slides_take_seconds():
    """Half of PANDA: planted pairs at the first, a middle and the last place, across the blocks of the comparison."""
    hashes = np.random.default_rng(0).integers(0, 2**63, (5000, 4), dtype=np.uint64)
    hashes[4999] = hashes[0] ^ np.uint64(0b1011)
    hashes[4500] = orientations(hashes[2500:2501])[6, 0]
    started = time.process_time()
    found = near_pairs(hashes)
    assert [pair[:2] for pair in found] == [(0, 4999), (2500, 4500)]
    assert [pair.turned for pair in found] == [False, True]
    assert time.process_time() - started < 30  # a second or two; a loop over 12 million pairs takes minutes


def test_groups_are_those_of_published_duplicates(shared_data):
    """PANDA's duplicates: 2,121 slides in 631 groups, rebuilt from the pairs of neighbours in each group."""
    table = pd.read_csv(shared_data / "panda_meta" / "duplicates_imghash090_1st_place.csv")
    names = pd.read_csv(shared_data / "panda_meta" / "train.csv")["image_id"].tolist()
    place = {name: row for row, name in enumerate(names)}
    pairs = [
        (place[first], place[second])
        for _, own in table.groupby("group_id")["image_id"]
        for first, second in zip(own.iloc[:-1], own.iloc[1:], strict=True)
    ]
    codes = connected(len(names), pairs)
    sizes = np.bincount(codes)
    assert (sizes > 1).sum() == 631
    assert sizes[sizes > 1].sum() == 2121
    published = table.set_index("image_id")["group_id"]
    ours = pd.Series(codes, index=names)[published.index]
    assert pd.DataFrame({"a": published, "b": ours}).drop_duplicates().shape[0] == 631
