"""Bodies that no client should send: good ones, cut, flipped, doubled, mislabelled, and plain noise."""

import json
import random
import zipfile
from collections.abc import Iterator

import numpy as np

from tests.sagemaker.request_bodies import TILE_SIZE, npy, png, text, zipped

CONTENT_TYPES = (
    "application/x-npy", "application/zip", "application/json", "image/png", "image/jpeg", "image/tiff", "text/csv", "",
)  # fmt: skip
WORDS = (
    b"'shape': (",
    b"999999999",
    b"../",
    b"\x00" * 9,
    b"IHDR",
    b"IDAT",
    b"PK\x05\x06",
    b"NaN",
    b'"tiles"',
    b"\xff" * 4,
)


def seeds() -> list[tuple[bytes, str]]:
    """Return good bodies of every kind."""
    random_state = np.random.default_rng(0)
    tiles = random_state.integers(0, 256, (2, TILE_SIZE, TILE_SIZE, 3), dtype=np.uint8)
    files = {f"a_{number}.png": png(tile) for number, tile in enumerate(tiles)}
    slide = random_state.integers(0, 256, (70, 50, 3), dtype=np.uint8)
    content = {"tiles": [text(data) for data in files.values()]}
    return [
        (npy(tiles), "application/x-npy"),
        (npy(tiles.astype(np.float32) / 255), "application/x-npy"),
        (npy(np.stack([tiles, tiles])), "application/x-npy"),
        (zipped(files), "application/zip"),
        (zipped(files, zipfile.ZIP_STORED), "application/zip"),
        (json.dumps(content).encode(), "application/json"),
        (json.dumps({"npy": text(npy(tiles))}).encode(), "application/json"),
        (json.dumps({"bags": [content, {"slide": text(png(slide))}]}).encode(), "application/json"),
        (json.dumps({"s3_uri": "s3://slides/a.npy"}).encode(), "application/json"),
        *((png(slide, name), f"image/{name.lower()}") for name in ("PNG", "JPEG", "TIFF")),
    ]


def malformed(count: int, seed: int) -> Iterator[tuple[bytes, str]]:
    """Yield bodies with content types; equal seeds give equal bodies."""
    chance = random.Random(seed)
    good = seeds()
    for _ in range(count):
        body, kind = chance.choice(good)
        for _ in range(chance.randint(1, 3)):
            body = _change(body, chance)
        yield body, chance.choice(CONTENT_TYPES) if chance.random() < 0.15 else kind


def _change(body: bytes, chance: random.Random) -> bytes:
    """Spoil a body in one way."""
    way = chance.randrange(8)
    place = chance.randrange(len(body) + 1)
    # Headers are short and matter most.
    if chance.random() < 0.5:
        place = min(place, chance.randrange(200))
    if way == 0:
        return body[:place]
    if way == 1:
        return body[place:]
    if way == 2:
        return body[:place] + chance.randbytes(chance.randint(1, 8)) + body[place + 1 :]
    if way == 3:
        return body[:place] + chance.choice(WORDS) + body[place:]
    if way == 4:
        return body[:place] + body[place : place + 50] * chance.randint(2, 20) + body[place:]
    if way == 5:
        return chance.randbytes(chance.randint(0, 400))
    if way == 6:
        spoiled = bytearray(body)
        for _ in range(chance.randint(1, 20)):
            if spoiled:
                spoiled[chance.randrange(len(spoiled))] ^= 1 << chance.randrange(8)
        return bytes(spoiled)
    return body[: -chance.randint(1, 40)]
