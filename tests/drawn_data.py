"""Drawn data in the form of the published sets, so that what is general is tested by whoever has none of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from tests.feature_files import write_trident

RADBOUD, KAROLINSKA = "0018ae58b01bdadc8e347995b69f99aa", "002a4db09dad406c85505a00fb6f6144"
APERIO = (
    "Aperio Image Library v11.2.1\r\n{width}x{height} [0,0 {width}x{height}] (240x240) JPEG/RGB Q=70"
    "|AppMag = 20|MPP = 0.4990|Filename = drawn"
)


def biopsy(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return white glass with one piece of tissue, stained unevenly and fading at its edge."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    density = ((1 - np.hypot(x / 0.8, y / 0.8)) * 4).clip(0, 1)[..., None]
    waves = 30 * np.sin(7 * x + seed)[..., None] * np.cos(9 * y)[..., None]
    stained = np.array([190, 90, 150]) + waves + rng.normal(0, 12, (height, width, 1))
    return (255 - density * (255 - stained)).clip(0, 255).astype(np.uint8)


def draw_panda(folder: Path) -> Path:
    """Write two slides, the mask of the first and their labels, as the set `panda_pixels` has them."""
    for part in ("level2", "masks_level2"):
        (folder / part).mkdir(parents=True)
    for name, size, seed in ((RADBOUD, (1584, 368), 1), (KAROLINSKA, (2048, 1494), 2)):
        picture = biopsy(*size, seed)
        Image.fromarray(picture).save(folder / "level2" / f"{name}.png", compress_level=1)
        if name == RADBOUD:
            # Stroma below, Gleason 4 above.
            pattern = np.where(np.arange(size[0]) < size[0] // 2, 4, 1)[:, None]
            mask = np.where(picture[..., 1] < 200, pattern, 0).astype(np.uint8)
            Image.fromarray(mask).save(folder / "masks_level2" / f"{name}_mask.png")
    rows = [(RADBOUD, "radboud", 4, "4+4"), (KAROLINSKA, "karolinska", 0, "0+0")]
    columns = ["image_id", "data_provider", "isup_grade", "gleason_score"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "labels.csv", index=False)
    return folder


def draw_scan(path: Path, height: int = 2967, width: int = 2220, thumbnail: bool = False) -> Path:
    """Write a scan of one level in Aperio's form, in tiles of JPEG: an SVS."""
    pixels = biopsy(height, width, seed=3)
    description = APERIO.format(width=width, height=height)
    with tifffile.TiffWriter(path) as writer:
        words = {"photometric": "rgb", "compression": "jpeg", "metadata": None, "software": False}
        writer.write(pixels, tile=(240, 240), description=description, **words)
        if thumbnail:
            writer.write(pixels[::4, ::4], rowsperstrip=120, **words)
    return path


def draw_breast_images(folder: Path, groups: int = 8) -> Path:
    """Write a benign and a malignant image of every tissue microarray, as the set `ucsb_breast` has them."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for group in range(groups):
        for label, kind in enumerate(("benign", "malignant")):
            name = f"array{group}_{kind}"
            picture = biopsy(768, 896, seed=2 * group + label)
            Image.fromarray(picture).save(folder / "images" / f"{name}.jpg", quality=85)
            rows.append({"image_id": name, "label": label, "tma_group": f"array{group}"})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder


def draw_colon_images(folder: Path, patients: int = 8) -> Path:
    """Write a benign and a malignant image of every patient, as the set `glas` has them."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for patient in range(patients):
        for label in (0, 1):
            name = f"images/train_{2 * patient + label}.jpg"
            Image.fromarray(biopsy(522, 775, seed=2 * patient + label)).save(folder / name, quality=85)
            rows.append({"image": name, "label": label, "patient": patient + 1, "split": "train"})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder


def draw_digits(folder: Path, train: int = 2000, test: int = 500) -> Path:
    """Write noise in place of digits, as `mnist.npz` has them; no two images are equal."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images = {
        f"x_{part}": rng.integers(0, 256, (n, 28, 28), np.uint8) for part, n in (("train", train), ("test", test))
    }
    labels = {f"y_{part}": rng.integers(0, 10, n, np.uint8) for part, n in (("train", train), ("test", test))}
    np.savez(folder / "mnist.npz", **images, **labels)
    return folder


def draw_classic(folder: Path) -> Path:
    """Write 40 bags of three instances for each of the five classic sets, with their number of features."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, width in (("musk1", 166), ("musk2", 166), ("fox", 230), ("tiger", 230), ("elephant", 230)):
        values = rng.normal(size=(120, width))
        np.savez(folder / f"{name}.npz", X=values, bag=np.repeat(np.arange(40), 3), y=np.arange(40) % 2)
    return folder


def draw_colon(folder: Path) -> Path:
    """Write 12 images of noise with three nuclei each, as the colon cancer set has them."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    nuclei = []
    for number in range(12):
        Image.fromarray(rng.integers(0, 255, (500, 500, 3), dtype=np.uint8)).save(folder / f"images/{number}.jpg")
        kind = "epithelial" if number % 2 else "fibroblast"
        nuclei += [{"image_id": str(number), "type": kind, "x": 20 * k, "y": 30 * k} for k in range(3)]
    pd.DataFrame(nuclei).to_csv(folder / "nuclei.csv", index=False)
    labels = pd.DataFrame({"image_id": [str(n) for n in range(12)], "label": [n % 2 for n in range(12)]})
    labels.to_csv(folder / "labels.csv", index=False)
    return folder


def draw_features(folder: Path) -> Path:
    """Write features of random numbers for 20 slides, as TRIDENT writes them, and their labels."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(20):
        features, coords = rng.normal(number % 2, 1, (5, 12)).astype(np.float32), rng.integers(0, 90_000, (5, 2))
        write_trident(folder / f"case_{number:02d}.h5", features, coords)
        rows.append({"slide_id": f"case_{number:02d}", "label": number % 2})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder


def draw_panda_labels(path: Path, slides: int = 1200) -> Path:
    """Write a label table in the form of PANDA's `train.csv`."""
    rng = np.random.default_rng(0)
    ids = [f"{number:032x}" for number in range(slides)]
    provider = rng.choice(["karolinska", "radboud"], slides)
    table = {"image_id": ids, "data_provider": provider, "isup_grade": rng.integers(0, 6, slides)}
    pd.DataFrame(table).to_csv(path, index=False)
    return path
