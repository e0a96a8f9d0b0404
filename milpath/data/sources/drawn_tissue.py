"""Synthetic tissue that resembles prostate stained with haematoxylin and eosin, drawn with numpy.

The structures are those used for grading. Benign glands are large, with an open lumen, a two-layered epithelium and
surrounding stroma; some benign tiles contain lymphocytes, many small dark nuclei. Lesions follow Gleason's patterns: 3
is small round glands side by side, 4 is fused glands with punched-out lumina, 5 is sheets of cells without glands;
their nuclei are larger and darker, with a nucleolus. All lengths are pixels at the resolution of PANDA's last level.
"""

from typing import NamedTuple

import numpy as np

BENIGN, INFLAMED = 0, 1
# Optical density of haematoxylin and eosin in red, green and blue (Macenko et al. 2009).
STAINS = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])


class Nuclei(NamedTuple):
    """Ellipses, one row per nucleus: tile, centre (y, x), half axes, angle, haematoxylin, presence of a nucleolus."""

    tile: np.ndarray
    centre: np.ndarray
    axes: np.ndarray
    angle: np.ndarray
    stain: np.ndarray
    nucleolus: np.ndarray


class Glands(NamedTuple):
    """Circles made irregular by a smooth warp, one row per gland: tile, centre (y, x), radius."""

    tile: np.ndarray
    centre: np.ndarray
    radius: np.ndarray


def draw_stains(kinds: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the amount of each stain.

    Args:
        kinds: `(tiles,)`: 0 benign, 1 benign with lymphocytes, 3, 4 or 5 for a lesion of this Gleason pattern.
        size: Width and height of a tile.
        rng: Generator of all randomness.

    Returns:
        `(tiles, 2, size, size)` float32: haematoxylin and eosin, 0 without tissue.
    """
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1).astype(np.float32)
    warp = np.stack([_noise(len(kinds), size, 22, rng), _noise(len(kinds), size, 22, rng)], axis=-1) * 3.0
    glands = _place_glands(kinds, size, rng)
    depth = _depth(warp, glands)
    epithelium = np.select([kinds == 3, kinds == 4, kinds == 5], [7.0, 0.5, 99.0], 10.5)[:, None, None]
    inside = depth > 0
    lumen = depth > epithelium + 1.8 * _noise(len(kinds), size, 7, rng)
    inside |= np.isin(kinds, (4, 5))[:, None, None]
    fibres = _fibres(len(kinds), size, rng)
    cytoplasm = 0.30 + 0.05 * _noise(len(kinds), size, 9, rng)
    eosin = np.where(inside, cytoplasm, 0.52 + 0.16 * fibres)
    eosin[lumen] = 0.02
    haematoxylin = np.where(inside, 0.16, 0.07 + 0.03 * fibres)
    haematoxylin[lumen] = 0.0
    nuclei = _join(_gland_nuclei(kinds, glands, warp, size, rng), _loose_nuclei(kinds, size, rng))
    _stamp(haematoxylin, eosin, nuclei, lumen, rng)
    tissue = _tissue_edge(grid, len(kinds), size, rng)
    return np.asarray(np.stack([haematoxylin, eosin], axis=1) * tissue[:, None], dtype=np.float32)


def stain_tiles(amounts: np.ndarray, factors: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Convert amounts of stain to colours, with the variation of one laboratory and one slide.

    The mean amount of each stain on a tile is random and independent of its content: a tile full of nuclei is not darker
    than another.

    Args:
        amounts: `(tiles, 2, size, size)` of `draw_stains`.
        factors: Factors of the laboratory for haematoxylin and eosin.
        rng: Generator of all randomness.

    Returns:
        uint8 `(tiles, size, size, 3)`.
    """
    tissue = np.maximum((amounts.sum(1) > 0).mean((1, 2)), 0.1)
    # A small tile may lie wholly beyond the border of the tissue.
    mean = np.maximum(amounts.mean((2, 3)) / tissue[:, None], 1e-6)
    wanted = np.array([0.30, 0.36]) * factors * rng.uniform(0.85, 1.15, 2)
    amounts = amounts * (wanted * rng.uniform(0.88, 1.12, mean.shape) / mean)[..., None, None]
    stains = STAINS * rng.uniform(0.92, 1.08, STAINS.shape)
    density = np.moveaxis(amounts.astype(np.float32), 1, -1) @ stains.astype(np.float32)
    light = rng.uniform(0.955, 0.985) * np.exp(-density)
    light += 0.012 * rng.standard_normal(density.shape, dtype=np.float32)
    return np.asarray(np.clip(255 * light + 0.5, 0, 255), dtype=np.uint8)


def darkest_first(tiles: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the tiles of a slide darkest first, as PANDA has them, and their columns of `tiles.csv`.

    Args:
        tiles: uint8 `(tiles, size, size, 3)`, side by side in a square.
        kinds: `(tiles,)` of `draw_stains`; `tile_label` is 1 with a lesion.
    """
    order, size = np.argsort(tiles.sum((1, 2, 3), dtype=np.int64), kind="stable"), tiles.shape[1]
    side = int(np.ceil(np.sqrt(len(tiles))))
    return tiles[order], {
        "x": order % side * size,
        "y": order // side * size,
        "level": np.zeros(len(tiles), np.int64),
        "tile_label": (kinds[order] >= 3).astype(np.int64),
    }


def _noise(num: int, size: int, period: float, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise of variance 1, `(num, size, size)`, with bumps of about `period` pixels."""
    knots = np.arange(-period, size + period, period / 2)
    weights = np.exp(-0.5 * ((np.arange(size)[:, None] - knots) / (period / 2)) ** 2)
    weights /= np.sqrt((weights**2).sum(1, keepdims=True))
    values = rng.standard_normal((num, len(knots), len(knots)))
    return np.asarray(weights @ values @ weights.T, dtype=np.float32)


def _fibres(num: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the wavy streaks of stroma, about -1 to 1, in a random direction per tile."""
    angle = rng.uniform(0, np.pi, (num, 1, 1)).astype(np.float32)
    rows, columns = np.arange(size, dtype=np.float32)[:, None], np.arange(size, dtype=np.float32)[None, :]
    across = rows * np.cos(angle) + columns * np.sin(angle) + 5 * _noise(num, size, 34, rng)
    strength = 0.4 + 0.2 * _noise(num, size, 16, rng)
    return np.asarray(np.sin(across / 1.9) * strength + 0.45 * _noise(num, size, 5, rng), dtype=np.float32)


def _place_glands(kinds: np.ndarray, size: int, rng: np.random.Generator) -> Glands:
    """Place glands on a jittered lattice: large and separate, small and crowded, or only lumina in a sheet."""
    parts = []
    for chosen, pitch, radius, empty in (
        (np.isin(kinds, (BENIGN, INFLAMED)), 58.0, 25.0, 0.12),
        (kinds == 3, 27.0, 12.0, 0.12),
        (kinds == 4, 21.0, 5.0, 0.25),
    ):
        tiles = np.flatnonzero(chosen)
        most = int(np.ceil(size / pitch) + 2)
        lattice = np.stack(np.meshgrid(np.arange(most), np.arange(most), indexing="ij"), axis=-1).reshape(-1, 2)
        # Every second row is shifted by half a pitch, so that crowded glands are not aligned.
        stagger = np.stack([np.zeros(len(lattice)), 0.5 * (lattice[:, 0] % 2)], axis=-1)
        jitter = rng.normal(0, 0.10, (len(tiles), len(lattice), 2)) - rng.uniform(0, 1, (len(tiles), 1, 2))
        taken = rng.random((len(tiles), len(lattice))) >= empty
        centre = (lattice + stagger + jitter) * pitch
        sizes = radius * rng.uniform(0.82, 1.12, (len(tiles), len(lattice)))
        owner = np.broadcast_to(tiles[:, None], taken.shape)
        parts.append(Glands(owner[taken], centre[taken], sizes[taken]))
    return Glands(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _depth(warp: np.ndarray, glands: Glands) -> np.ndarray:
    """Return the depth of each pixel inside its deepest gland, `(tiles, size, size)`; negative outside of glands."""
    size = warp.shape[1]
    depth = np.full(warp.shape[:3], -99.0, np.float32)
    for small in (True, False):
        chosen = (glands.radius < 15) == small
        # Only the window of a gland is computed, with a margin for the warp.
        half = 20 if small else 35
        owner, rows, columns = _windows(glands.centre[chosen], half, size)
        tile = glands.tile[chosen][owner]
        centre = glands.centre[chosen].astype(np.float32)
        moved = warp[tile, rows, columns]
        down, right = rows + moved[:, 0] - centre[owner, 0], columns + moved[:, 1] - centre[owner, 1]
        own = glands.radius[chosen].astype(np.float32)[owner] - np.sqrt(down * down + right * right)
        np.maximum.at(depth.reshape(-1), (tile * size + rows) * size + columns, own)
    return depth


def _windows(centre: np.ndarray, half: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all pixels of the square windows around some points that are on the tile: point, row, column."""
    near = np.flatnonzero(((centre > -half) & (centre < size + half)).all(1))
    middle = np.round(centre[near]).astype(np.int64)
    step = np.arange(-half, half + 1)
    rows, columns = middle[:, :1] + step, middle[:, 1:] + step
    kept = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :]
    point, row, column = np.nonzero(kept)
    return near[point], rows[point, row], columns[point, column]


def _gland_nuclei(kinds: np.ndarray, glands: Glands, warp: np.ndarray, size: int, rng: np.random.Generator) -> Nuclei:
    """Line the wall of each gland with nuclei: two layers in benign glands, one layer of larger ones in small glands."""
    parts = []
    for layer, lined_kinds in enumerate(((BENIGN, INFLAMED, 3), (BENIGN, INFLAMED))):
        lined = np.flatnonzero(np.isin(kinds[glands.tile], lined_kinds))
        lesion = kinds[glands.tile[lined]] == 3
        wall = glands.radius[lined] - np.where(lesion, 3.4, 2.8 + 4.2 * layer)
        count = np.maximum(3, (2 * np.pi * wall / np.where(lesion, 14.5, 5.2)).astype(int))
        owner = np.repeat(np.arange(len(lined)), count)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        turn = 2 * np.pi * (step + rng.uniform(-0.25, 0.25, len(owner))) / count[owner]
        direction = np.stack([np.sin(turn), np.cos(turn)], axis=-1)
        reach = wall[owner] + rng.normal(0, 0.7, len(owner))
        tile = glands.tile[lined[owner]]
        centre = glands.centre[lined[owner]] + reach[:, None] * direction
        pixel = np.clip(centre, 0, size - 1).astype(int)
        centre = centre - warp[tile, pixel[:, 0], pixel[:, 1]]
        parts.append(_nuclei(tile, centre, turn, np.where(lesion[owner], 3, 0), rng))
    return _join(*parts)


def _loose_nuclei(kinds: np.ndarray, size: int, rng: np.random.Generator) -> Nuclei:
    """Scatter the nuclei of stroma, clusters of lymphocytes, and the cells of fused glands and sheets."""
    area = size * size / 128**2
    counts = np.select([kinds == INFLAMED, kinds == 3, kinds == 4, kinds == 5], [150, 10, 56, 50], 38) * area
    tile = np.repeat(np.arange(len(kinds)), rng.poisson(counts))
    centre = rng.uniform(-4, size + 4, (len(tile), 2))
    # Half of the lymphocytes gather around one point.
    gathered = (kinds[tile] == INFLAMED) & (rng.random(len(tile)) < 0.6)
    focus = rng.uniform(0.2, 0.8, (len(kinds), 2)) * size
    near = focus[tile] + rng.normal(0, 13, centre.shape)
    centre = np.where(gathered[:, None], near, centre)
    kind = np.where(kinds[tile] == 3, BENIGN, kinds[tile])
    return _nuclei(tile, centre, rng.uniform(0, np.pi, len(tile)), np.where(kind == BENIGN, 2, kind), rng)


def _nuclei(
    tile: np.ndarray, centre: np.ndarray, angle: np.ndarray, kind: np.ndarray, rng: np.random.Generator
) -> Nuclei:
    """Shape nuclei: 0 epithelium, 1 lymphocyte, 2 spindle of the stroma, 3 and more lesion."""
    lesion = kind >= 3
    long = np.select([kind == 0, kind == 1, kind == 2], [3.1, 2.3, 4.6], 5.0)
    short = np.select([kind == 0, kind == 1, kind == 2], [2.6, 2.2, 1.5], 4.2)
    spread = np.where(lesion, 0.16, 0.08)[:, None]
    axes = np.stack([short, long], axis=-1) * np.exp(rng.normal(0, spread, (len(tile), 2)))
    stain = np.select([kind == 0, kind == 1, kind == 2], [0.70, 0.80, 0.70], 2.3) * rng.uniform(0.85, 1.15, len(tile))
    return Nuclei(tile, centre, np.clip(axes, 1.2, 6.5), angle, stain, lesion & (rng.random(len(tile)) < 0.7))


def _join(*parts: Nuclei) -> Nuclei:
    """Concatenate lists of nuclei."""
    return Nuclei(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _stamp(
    haematoxylin: np.ndarray, eosin: np.ndarray, nuclei: Nuclei, lumen: np.ndarray, rng: np.random.Generator
) -> None:
    """Draw nuclei into the stain maps, except in a lumen."""
    size = haematoxylin.shape[-1]
    middle = np.round(nuclei.centre).astype(int)
    held = ((middle >= 0) & (middle < size)).all(1)
    held[held] = ~lumen[nuclei.tile[held], middle[held, 0], middle[held, 1]]
    nuclei = Nuclei(*(column[held] for column in nuclei))
    owner, rows, columns = _windows(nuclei.centre, 7, size)
    centre, axes = nuclei.centre.astype(np.float32), nuclei.axes.astype(np.float32)
    down, right = rows - centre[owner, 0], columns - centre[owner, 1]
    sine, cosine = np.sin(nuclei.angle).astype(np.float32)[owner], np.cos(nuclei.angle).astype(np.float32)[owner]
    short, long = axes[owner, 0], axes[owner, 1]
    radius = np.sqrt(((down * cosine - right * sine) / long) ** 2 + ((down * sine + right * cosine) / short) ** 2)
    cover = np.clip((1 - radius) * short + 0.5, 0, 1)
    seen = cover > 0
    owner, rows, columns, radius, cover = (column[seen] for column in (owner, rows, columns, radius, cover))
    # Chromatin gathers at the rim of a large nucleus, and the nucleolus is a dot in its middle.
    body = np.where(nuclei.nucleolus[owner], 0.85 + 0.25 * radius + 0.35 * (radius < 0.30), 1.0)
    value = cover * nuclei.stain[owner] * body * rng.normal(1.0, 0.07, len(cover))
    flat = (nuclei.tile[owner] * size + rows) * size + columns
    np.maximum.at(haematoxylin.reshape(-1), flat, value.astype(haematoxylin.dtype))
    eosin.reshape(-1)[flat] *= 0.72


def _tissue_edge(grid: np.ndarray, num: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return 1 in tissue and 0 beyond its border, which is visible on about a third of the tiles."""
    angle = rng.uniform(0, 2 * np.pi, (num, 1, 1))
    side = (grid[..., 0] - size / 2) * np.sin(angle) + (grid[..., 1] - size / 2) * np.cos(angle)
    border = np.where(rng.random((num, 1, 1)) < 0.35, rng.uniform(-0.15, 0.45, (num, 1, 1)) * size, size)
    return np.asarray(np.clip(border - side + 4 * _noise(num, size, 14, rng), 0, 1), dtype=np.float32)
