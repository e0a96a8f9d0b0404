"""Small stores and folders that the tests of bags share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from milpath.data.sources.synthetic import SyntheticBags
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter

MakeStore = Callable[..., Path]


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Write a store of random bags and return its path."""

    def make(
        lengths: Sequence[int],
        labels: Sequence[Any] | None = None,
        tile_shape: tuple[int, ...] = (6, 6, 3),
        name: str = "store",
        tile_labels: bool = False,
        **columns: Sequence[Any],
    ) -> Path:
        rng = np.random.default_rng(0)
        labels = [number % 2 for number in range(len(lengths))] if labels is None else labels
        with BagStoreWriter(tmp_path / name) as writer:
            for number, (length, label) in enumerate(zip(lengths, labels, strict=True)):
                if len(tile_shape) == 3:
                    tiles = rng.integers(0, 256, (length, *tile_shape), dtype=np.uint8)
                else:
                    tiles = rng.normal(3, 2, (length, *tile_shape)).astype(np.float32)
                row = {"label": label} | {key: values[number] for key, values in columns.items()}
                rows = {"tile_label": np.arange(length) % 2} if tile_labels else None
                writer.add(f"bag_{number:03d}", tiles, row, rows)
        return tmp_path / name

    return make


@pytest.fixture
def open_store(make_store: MakeStore) -> Callable[..., BagStore]:
    return lambda *arguments, **options: BagStore.open(make_store(*arguments, **options))


@pytest.fixture(scope="session")
def synthetic_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten synthetic slides of four small tiles as PNG files with a train.csv."""
    folder = tmp_path_factory.mktemp("synthetic_folder")
    return SyntheticBags(num_slides=10, num_tiles=4, tile_size=32).write_folder(folder)
