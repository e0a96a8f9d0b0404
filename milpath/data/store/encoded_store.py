"""Features of a frozen encoder, computed once and cached as a bag store."""

import hashlib
import inspect
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from milpath.data.loading.augmentation import TileAugmentation
from milpath.data.loading.batch_preparation import Preparation
from milpath.data.sources.features.feature_check import require_finite_bags
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.drawing.progress import track
from milpath.models.devices import choose_device
from milpath.models.encoders import TileEncoder
from milpath.models.encoders.trained_encoder import TrainedEncoder
from milpath.models.stains import sampled_tiles, unchanged_note
from milpath.records.digests import sha256_of_file, sha256_of_text

FrozenEncoder = TileEncoder | TrainedEncoder
_log = logging.getLogger(__name__)
# Tiles on the device at a time.
_TILES_AT_A_TIME = 256


def open_or_encode(
    store: BagStore,
    encoder: FrozenEncoder,
    stores_dir: str | Path,
    *,
    verify: bool = True,
    augmented: tuple[TileAugmentation, int] | None = None,
) -> BagStore:
    """Return the features of every tile of a store, computed the first time and read from disk afterwards.

    The folder is named by a hash of the tiles, the name of the encoder and every one of its weights (and the source file
    of a user-defined encoder), so that different tiles, encoders or weights never share features.

    Args:
        store: A store of image tiles.
        encoder: A frozen encoder; its preprocessing is part of it.
        stores_dir: Folder of the stores.
        verify: False skips the hash of the array of features (see `BagStore.open`).
        augmented: How tiles are augmented before they are encoded, and the number of this copy, which seeds the draws;
            `None` encodes them as they are.

    Raises:
        ValueError: If the encoder is not frozen: its features would be outdated after the first step.
    """
    if not encoder.frozen:
        raise ValueError(
            f"the encoder {encoder.name} is not frozen; set model.encoder.frozen=true to cache its features"
        )
    description: dict[str, Any] = {
        "tiles_sha256": store.description["sha256"],
        "bags": store.bags["bag_id"].tolist(),
        "encoder": encoder.name,
        "weights_sha256": hash_of_weights(encoder),
    }
    if encoder.stains is not None:
        description["stain_normalisation"] = type(encoder.stains.method).__name__.lower()
    if (code := _own_code(encoder.network)) is not None:
        description["code_sha256"] = code
    if augmented is not None:
        kind, copy = augmented
        description["augmentation"] = {"kind": kind.kind, "stain_jitter": kind.stain_jitter, "copy": copy}
    key = sha256_of_text(json.dumps(description))[:16]
    path = Path(stores_dir) / f"features-{encoder.name.replace('/', '-')}-{key}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / f".{path.name}.lock"):
        if not path.exists():
            del description["bags"]
            _encode(store, encoder, path, description, augmented)
    return BagStore.open(path, verify=verify)


def _own_code(network: torch.nn.Module) -> str | None:
    """Return a digest of the code of a user-defined encoder, which may change; `None` for one of milpath.

    Of a module of torch, such as `Sequential`, its layers; of any other the source file of its class.
    """
    kind = type(network)
    if kind.__module__.partition(".")[0] == "milpath":
        return None
    if kind.__module__.partition(".")[0] == "torch":
        return sha256_of_text(repr(network))
    try:
        return sha256_of_file(inspect.getfile(kind))
    except (TypeError, OSError):
        return f"{kind.__module__}.{kind.__qualname__}"  # defined interactively: there is no file


def hash_of_weights(encoder: torch.nn.Module) -> str:
    """Return a hash of all weights of an encoder, including its preprocessing."""
    digest = hashlib.sha256()
    for name, value in sorted([*encoder.named_parameters(), *encoder.named_buffers()]):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _encode(
    store: BagStore,
    encoder: FrozenEncoder,
    path: Path,
    description: dict[str, Any],
    augmented: tuple[TileAugmentation, int] | None,
) -> None:
    """Write the features of all tiles, bag by bag."""
    device = choose_device()
    home = next((value.device for value in encoder.state_dict().values()), torch.device("cpu"))
    started = time.perf_counter()
    encoder.to(device)
    preparation = Preparation(None if augmented is None else augmented[0])
    columns = [name for name in store.bags.columns if name not in ("bag_id", "start", "num_tiles")]
    source = {"name": "features", "parameters": description}
    with BagStoreWriter(path, source, {"warning": store.warning} if store.warning else {}) as writer:
        writer.expected_bags = len(store)
        bag_ids = store.bags["bag_id"].tolist()
        for index, bag_id in track(enumerate(bag_ids), f"features of {encoder.name}, bags", len(bag_ids)):
            where = store.tile_slice(index)
            labels = {name: store.bags[name].iloc[index] for name in columns}
            known = store.tile_rows(where).drop(columns="bag_id")
            rows = {str(name): known[name].to_numpy() for name in known}
            seed = None if augmented is None else (augmented[1], index)
            features = _features(encoder, store.tiles[where], device, preparation, seed)
            require_finite_bags(features[None], [len(features)], [bag_id], f"the output of encoder {encoder.name}")
            writer.add(bag_id, features, labels, rows)
    encoder.to(home)
    if note := unchanged_note(encoder):
        _log.warning("%s", note)
    _log.info("features of %d bags written to %s in %.1f s", len(store), path, time.perf_counter() - started)


def _features(
    encoder: FrozenEncoder,
    tiles: np.ndarray,
    device: torch.device,
    preparation: Preparation,
    seed: tuple[int, int] | None,
) -> np.ndarray:
    """Return float32 features `(tiles, embedding_dim)` of the uint8 tiles of a bag, augmented if there is a seed."""

    def prepared(chosen: list[int] | slice, number: int) -> torch.Tensor:
        part = torch.from_numpy(np.array(tiles[chosen])).to(device)[None]
        drawn = 0 if seed is None else np.random.SeedSequence([*seed, number]).generate_state(1, np.uint32)[0]
        return preparation(part, torch.ones(part.shape[:2], dtype=torch.bool), int(drawn), False)

    starts = range(0, len(tiles), _TILES_AT_A_TIME)
    sample = prepared(sampled_tiles(len(tiles)), len(starts))[0]
    parts = []
    with torch.inference_mode(), encoder.parts_of_bag(sample):
        for number, start in enumerate(starts):
            part = prepared(slice(start, start + _TILES_AT_A_TIME), number)
            parts.append(encoder(part)[0].float().cpu().numpy())
    return np.concatenate(parts)
