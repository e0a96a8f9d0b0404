"""A small network, and the files that people and others send."""

import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from milpath.models import AttentionMIL, save_network
from tests.pyramids import tissue, write_pyramid

TILE = 16


def png(size: int = TILE, seed: int = 0) -> bytes:
    """Return a PNG tile of noise."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_zip(path: Path, content: dict[str, bytes]) -> Path:
    """Write a zip with any names in it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("viewer") / "network.pt"
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": TILE, "embedding_dim": 8})
    tiling = {"method": "darkest", "tile_size": TILE, "num_tiles": 6, "level": -1}
    save_network(
        network, path, class_names=("benign", "malignant"), threshold=0.3, temperature=0.5, defer_below=0.999, tiling=tiling
    )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory) -> dict[str, tuple[list[Path], str]]:
    """What nobody should send: the files, and what the answer must say."""
    folder = tmp_path_factory.mktemp("bad")
    tile = png()

    def write(name: str, data: bytes) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    slide = write_pyramid(folder / "good.tiff", tissue(80, 60), factors=(2, 1))
    bomb = zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED)
    with bomb, bomb.open("a_0.png", "w") as file:
        for _ in range(80):
            file.write(bytes(2**20))
    with zipfile.ZipFile(folder / "bomb.zip", "a") as bomb:
        bomb.writestr("a_1.png", tile)
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    huge = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    huge += (4).to_bytes(4, "big") + b"IDAT" + bytes(8)
    many = {f"a_{number}.png": tile for number in range(41)}
    return {
        "no slide": ([write("no slide.tiff", b"II*\0 and then nothing")], "no slide.tiff"),
        "half a slide": ([write("half.tiff", slide.read_bytes()[:3000])], "half.tiff"),
        "no picture": ([write("no picture.png", b"hello")], "is not a slide or image that can be read"),
        "wrong type": ([write("run.exe", b"MZ")], "run.exe has the type .exe; supported types: .tif"),
        "no type": ([write("slide", b"II*\0")], "has the type (no suffix)"),
        "empty": ([write("empty.svs", b"")], "empty.svs is empty (0 bytes)"),
        "too large": ([write("large.tiff", bytes(3 * 2**20 + 1))], "has 3.0 MB; at most 3 MB are allowed"),
        "picture bomb": ([write("huge.png", huge)], "huge.png is too large for a plain image"),
        "zip bomb": ([folder / "bomb.zip"], "a_0.png in bomb.zip is larger than 67,108,864 bytes"),
        "small bombs": (
            [write_zip(folder / "small bombs.zip", {f"a_{number}.png": tile + bytes(2**20) for number in range(4)})],
            "the tiles unpack to more than 3,145,728 bytes",
        ),
        "too many tiles": ([write_zip(folder / "many.zip", many)], "many.zip contains 41 tiles; the maximum is 40"),
        "path out of a zip": (
            [write_zip(folder / "path.zip", {"../../evil_0.png": tile, "evil_1.png": tile})],
            "path.zip contains the path '../../evil_0.png', which points outside of the archive",
        ),
        "no zip": ([write("no zip.zip", b"PK\3\4 but no more")], "no zip.zip is not a zip archive"),
        "empty zip": ([write_zip(folder / "empty.zip", {})], "empty.zip contains no files"),
        "other files in a zip": (
            [write_zip(folder / "other.zip", {"a_0.png": tile, "run.sh": b"rm"})],
            "other.zip contains 'run.sh'; give only PNG tiles",
        ),
        "two slides in a zip": (
            [write_zip(folder / "two.zip", {"a_0.png": tile, "a_1.png": tile, "b_0.png": tile})],
            "the tiles belong to 2 slides ('a', 'b', ...); give each slide a zip of its own",
        ),
        "one number twice": (
            [write_zip(folder / "twice.zip", {"c_1.png": tile, "c_01.png": tile})],
            "twice.zip contains 'c_01.png' and 'c_1.png', which are the same name or number",
        ),
        "one name in two cases": ([write("d_1.png", tile), write("D_1.png", tile)], "which are the same name or number"),
        "a gap": (
            [write_zip(folder / "gap.zip", {f"c_{number}.png": tile for number in (0, 1, 3)})],
            "gap.zip has 3 tiles but none with the number 2; give all of them",
        ),
        "damaged tile": (
            [write_zip(folder / "damaged.zip", {"a_0.png": tile, "a_1.png": tile[:60]})],
            "a_1.png is a damaged PNG",
        ),
        "disguised tile": (
            [write_zip(folder / "disguised.zip", {"a_0.png": tile, "a_1.png": b"\xff\xd8\xff"})],
            "a_1.png is not a PNG image",
        ),
        "blank slide": (
            [write_pyramid(folder / "blank.tiff", np.full((80, 60, 3), 250, np.uint8), factors=(2, 1))],
            "blank.tiff is blank: all its tiles have one colour",
        ),
        "wrong tile size": (
            [write("a_0.png", png(24)), write("a_1.png", png(24))],
            "the network was trained on tiles of 16 px, but a_0.png is 24 x 24 px",
        ),
        "one tile": ([write("a_2.png", tile)], "contains only one tile, but attention compares tiles with each other"),
        "one tile in a zip": ([write_zip(folder / "one.zip", {"a_0.png": tile})], "one.zip contains only one tile"),
        "two slides": ([slide, folder / "a_0.png"], "good.tiff is a slide and a_0.png a tile; upload only slides, only zips, or only tiles"),
        "nothing": ([], "there is no file"),
    }  # fmt: skip


BAD = (
    "no slide", "half a slide", "no picture", "wrong type", "no type", "empty", "too large", "picture bomb", "zip bomb",
    "small bombs", "too many tiles", "path out of a zip", "no zip", "empty zip", "other files in a zip",
    "two slides in a zip", "one number twice", "one name in two cases", "a gap", "damaged tile", "disguised tile", "blank slide", "wrong tile size", "one tile",
    "one tile in a zip", "two slides", "nothing",
)  # fmt: skip
