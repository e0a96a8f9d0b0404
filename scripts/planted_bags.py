"""Bags with a planted number of positive tiles, of drawn slides and of MNIST digits, as frozen features."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from milpath.data import SyntheticBags
from milpath.data.sources.mnist_bags import read_digits
from milpath.models.encoders import TileEncoder

NUM_FEATURES = 32
# Drawn slides: the tiles of each, a third of them lesions if it is malignant, and slides that only fit the components.
SLIDES, SLIDE_TILES, LESIONS, FITTED = 800, 96, 32, 100
Rows = NDArray[np.int64]


class Plan(NamedTuple):
    """What is trained.

    Attributes:
        sizes: Tiles of a bag, to the positive tiles of a positive bag.
        num_bags: Data set to its numbers of training bags.
        num_test: Test bags of each seed.
        seeds: Number of seeds.
        epochs: Epochs of each training.
    """

    sizes: dict[int, tuple[int, ...]]
    num_bags: dict[str, tuple[int, ...]]
    num_test: int
    seeds: int
    epochs: int


class Bags(NamedTuple):
    """Bags of one training: rows of the features, `(shares, bags, tiles)`. Every second bag is positive, from the first on.

    Positive tiles come first.
    """

    train: Rows
    test: Rows


class Pool(NamedTuple):
    """Features of tiles, `(tiles, NUM_FEATURES)`, and the draw of bags for a seed, a size and a number of training bags."""

    features: torch.Tensor
    draw: Callable[[int, int, int], Bags]


def with_planted(positive: Rows, negative: Rows, size: int, counts: Sequence[int]) -> Rows:
    """Return the tiles of a bag for each number of planted ones, `(shares, size)`."""
    return np.stack([np.concatenate([positive[:count], negative[: size - count]]) for count in counts])


def mnist_pool(path: Path, plan: Plan) -> Pool:
    """Return digits as principal components of their pixels; a nine is positive.

    The components are those of the training digits, without their labels. Training bags have training digits, drawn with
    replacement, and test bags test digits.
    """
    digits = read_digits(path)
    images = np.concatenate([digits.train_images, digits.test_images]).reshape(-1, 28 * 28).astype(np.float32) / 255
    nines = np.concatenate([digits.train_labels, digits.test_labels]) == 9
    count = len(digits.train_images)

    def draw(seed: int, size: int, num_bags: int) -> Bags:
        def of(digits_of_part: slice, bags: int, stream: int) -> Rows:
            rng = np.random.default_rng([seed, size, stream])
            part = np.arange(len(nines))[digits_of_part]
            with_nine, without, found = part[nines[part]], part[~nines[part]], []
            for bag in range(bags):
                positive, negative = rng.choice(with_nine, size), rng.choice(without, size)
                found.append(with_planted(negative if bag % 2 else positive, negative, size, plan.sizes[size]))
            return np.stack(found, 1)

        return Bags(of(slice(count), num_bags, 0), of(slice(count, None), plan.num_test, 1))

    return Pool(torch.from_numpy(components(images[:count])(images)), draw)


def synthetic_pool(output: Path, plan: Plan) -> Pool:
    """Return the tiles of drawn slides as principal components of the features of a frozen EfficientNet-Lite0.

    The components are those of slides that are in no bag. Seeds take slides in turn: up to 100 bags no two of eight seeds
    share a training slide, and the training and test slides of a seed are always different.
    """
    kept = output / "synthetic.npz"
    if not kept.is_file():
        encode_slides(kept)
    with np.load(kept, allow_pickle=False) as arrays:
        features, lesion = arrays["features"], arrays["lesion"]

    def draw(seed: int, size: int, num_bags: int) -> Bags:
        def of(first: int, bags: int) -> Rows:
            # Slides are benign and malignant in turn; from the last to the first, the first bag is a positive one.
            return np.stack([tiles(slide % SLIDES) for slide in range(first + bags - 1, first - 1, -1)], 1)

        def tiles(slide: int) -> Rows:
            rows = slide * SLIDE_TILES + np.random.default_rng([slide, size]).permutation(SLIDE_TILES)
            own = lesion[rows]
            return with_planted(rows[own] if slide % 2 else rows[~own], rows[~own], size, plan.sizes[size])

        first = SLIDES // plan.seeds * seed
        return Bags(of(first, num_bags), of(first + SLIDES // 2, plan.num_test))

    return Pool(torch.from_numpy(features), draw)


def encode_slides(path: Path) -> None:
    """Draw slides, encode their tiles and keep the features."""
    source = SyntheticBags(SLIDES + FITTED, SLIDE_TILES, tile_size=32, lesion_share=LESIONS / SLIDE_TILES)
    encoder = TileEncoder({"name": "efficientnet_lite0", "pretrained": True, "frozen": True}).eval()

    def encoded(slides: Sequence[int]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        for slide in slides:
            _, tiles, rows = source.draw_slide(slide)
            with torch.inference_mode():
                pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2)[None] / 255
                yield encoder(pixels)[0].numpy(), rows["tile_label"] == 1
            if slide % 50 == 0:
                sys.stdout.write(f"encoded slide {slide} of {SLIDES + FITTED}\n")

    project = components(np.concatenate([features for features, _ in encoded(range(SLIDES, SLIDES + FITTED))]))
    found = [(project(features), lesion) for features, lesion in encoded(range(SLIDES))]
    np.savez(path, features=np.concatenate([f for f, _ in found]), lesion=np.concatenate([t for _, t in found]))


def components(values: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the projection on the first principal components of some rows, each scaled to a deviation of 1."""
    mean = values.mean(0)
    variances, axes = np.linalg.eigh(np.cov(values - mean, rowvar=False))
    scaled = (axes[:, ::-1] / np.sqrt(np.maximum(variances[::-1], 1e-12)))[:, :NUM_FEATURES].astype(np.float32)
    return lambda rows: (rows - mean) @ scaled
