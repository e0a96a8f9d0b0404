"""Two thousand edits of one byte, over every file of a store and a checkpoint of a run: none is used in silence."""

import random
from collections import Counter

import numpy as np
import pytest
import torch

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.models import AttentionMIL, load_network, save_network
from milpath.models.checkpoint import read_checkpoint, write_checkpoint
from milpath.models.weights_digest import digest_of

_EDITS = 1000


def edited(whole, rng):
    """Return a file with one other byte, at a place that is equally often in its first and last KB as elsewhere."""
    content = bytearray(whole)
    end = len(content)
    first, last = rng.choice([(0, end), (0, min(1024, end)), (max(0, end - 1024), end)])
    place = rng.randrange(first, last)
    content[place] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
    return bytes(content)


def as_read(store):
    """Return all that is read of a store."""
    tiles, tables = np.asarray(store.tiles), (store.bags.to_csv(), store.tiles_table.to_csv())
    return (tiles.tobytes(), tiles.dtype, tiles.shape, *tables, store.description)


@pytest.mark.slow
def test_no_edit_of_one_byte_of_a_store_is_used_in_silence(tmp_path):
    rng, numbers = random.Random(0), np.random.default_rng(0)
    path = tmp_path / "store"
    tiling = {"method": "darkest", "tile_size": 8, "num_tiles": 4}
    with BagStoreWriter(path, {"name": "slides", "parameters": {"a": 1}}, {"tiling": tiling}) as writer:
        for number in range(12):
            rows = {"x": numbers.integers(0, 999, 4), "y": numbers.integers(0, 999, 4), "level": np.full(4, 2)}
            tiles = numbers.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
            writer.add(f"slide {number}", tiles, {"label": number % 2, "provider": "a"}, rows)
    whole = {file.name: file.read_bytes() for file in path.iterdir()}
    expected, outcomes = as_read(BagStore.open(path)), Counter()
    for _ in range(_EDITS):
        name = rng.choice(sorted(whole))
        (path / name).write_bytes(edited(whole[name], rng))
        try:
            assert as_read(BagStore.open(path)) == expected, name
            outcomes["equal"] += 1
        except (ValueError, OSError) as error:
            outcomes["two lines" if "\n" in str(error) else "refused"] += 1
        (path / name).write_bytes(whole[name])
    print(f"store: {dict(outcomes)}")
    assert outcomes["refused"] > 0.9 * _EDITS
    assert outcomes["refused"] + outcomes["equal"] == _EDITS


@pytest.mark.slow
def test_no_edit_of_one_byte_of_a_checkpoint_is_used_in_silence(tmp_path):
    rng = random.Random(1)
    network = AttentionMIL(encoder={"name": "linear", "num_features": 8, "hidden_dims": [16]})
    save_network(network, tmp_path / "best.ckpt", class_names=("benign", "malignant"), tiling={"tile_size": 8})
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.rand(1, 3, 8)).logits.sum().backward()
    optimizer.step()
    content = read_checkpoint(tmp_path / "best.ckpt")
    write_checkpoint(content | {"optimizer_states": [optimizer.state_dict()], "epoch": 3}, tmp_path / "last.ckpt")
    outcomes = Counter()
    for name in ("best.ckpt", "last.ckpt"):
        whole, expected = (tmp_path / name).read_bytes(), digest_of(read_checkpoint(tmp_path / name))
        for _ in range(_EDITS // 2):
            (tmp_path / "edited.ckpt").write_bytes(edited(whole, rng))
            try:
                assert digest_of(read_checkpoint(tmp_path / "edited.ckpt")) == expected
                load_network(tmp_path / "edited.ckpt")
                outcomes["equal"] += 1
            except (ValueError, OSError) as error:
                outcomes["two lines" if "\n" in str(error) else "refused"] += 1
    print(f"checkpoint: {dict(outcomes)}")
    assert outcomes["refused"] > 0.3 * _EDITS
    assert outcomes["refused"] + outcomes["equal"] == _EDITS
