"""Slides and tiles as the data of an evaluation: cut, and encoded for a network of features, as in training."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf
from torch import nn

from milpath.data.datamodule import BagDataModule
from milpath.data.sources.features.feature_folder import holds_features
from milpath.data.sources.loose_tiles import holds_tiles
from milpath.data.store.encoder_match import require_encodable, require_same_tile_size
from milpath.inference.encode_input import open_and_encode
from milpath.inference.open_input import FEATURES, kind_of_input, open_input
from milpath.models.card import Card, features_of
from milpath.models.encoders.trained_encoder import TrainedEncoder, open_trained_encoder
from milpath.models.network_input import takes
from milpath.records.error_text import counted
from milpath.targets import target_of
from milpath.tiling.slide_run import TilingSummary

_OF_DATA = re.compile(r"\bdata\.(?!target)\w+=")
# Options of the training's data that say what is asked of a bag; the others belong to its files.
_OF_TARGET = ("target", "label_column", "task", "class_names", "on_missing_label", "bag_column", "patient_column")


def bags_of_slides(
    config: DictConfig,
    card: Card,
    network: nn.Module,
    encoders: Iterable[type[nn.Module]],
    trainer: Trainer,
    run_dir: Path,
) -> tuple[DictConfig, str]:
    """Return the `data` configuration of slides, tiles or features with labels, and which of them cannot be tested.

    The bags are written to `bags` in the run folder, where an interrupted evaluation continues.

    Args:
        config: Root of the `evaluate` command.
        card: The card of the network.
        network: The network.
        encoders: The user's own classes, which a card names.
        trainer: Knows the device and the number of processes.
        run_dir: Folder of the evaluation.

    Raises:
        ValueError: If options do not fit together, or a slide cannot be read and `on_error` is "fail".
    """
    if config.slides is None or config.labels is None:
        raise ValueError(f"slides={config.slides} labels={config.labels}: an evaluation of slides needs both")
    if config.data:
        raise ValueError(f"give slides={config.slides} or data=NAME, not both")
    path = Path(config.slides)
    if (path / "store.json").is_file():
        raise ValueError(f"slides={path} is a bag store, which has its labels; give data=bag_store data.path={path}")
    if not holds_features(path) and path.exists() and holds_tiles(path, card.tiling.get("tile_size")):
        raise ValueError(
            f"slides={path} holds tiles; give data=panda_tiles data.tiles={path} data.labels={config.labels}"
        )
    if config.resolutions is not None and path.exists() and kind_of_input(path, takes(network), None) == FEATURES:
        raise ValueError(
            f"resolutions={config.resolutions} is only for whole slides; {path} holds features; leave it out"
        )
    if trainer.world_size > 1:
        raise ValueError("slides are evaluated by one process; add trainer.devices=1, or extract them first")
    words: dict[str, Any] = {"labels": config.labels, "id_column": config.id_column, "resolutions": config.resolutions}
    words |= {"mixed_resolution": config.mixed_resolution, "overwrite": config.overwrite}
    encode = partial(
        _encode, card, weights_path=config.encoder_weights_path, weights_dir=config.paths.weights_dir,
        encoders=encoders, device=str(trainer.strategy.root_device), num_workers=config.num_workers, **words,
    )  # fmt: skip
    run_dir.mkdir(parents=True, exist_ok=True)
    store, failures = open_input(
        path, card.tiling, run_dir, config.num_workers, takes=takes(network),
        encode=encode, dtype=features_of(card), **words,
    )  # fmt: skip
    require_same_tile_size(card, store, config.slides)
    said = ""
    if failures:
        name, reason = min(failures.items())
        said = f"{counted(len(failures), 'slide')} cannot be tested, see {run_dir}/failures.csv (first: {name!r}: {reason})"
        if config.on_error == "fail":
            raise ValueError(f"{said}; add on_error=skip to test the others")
    options = {name: card.data[name] for name in _OF_TARGET if card.data.get(name) is not None}
    if config.label_column is not None:
        each = config.label_column
        options["label_column"] = OmegaConf.to_container(each) if OmegaConf.is_config(each) else each
    if target_of(card).has_classes:
        options["class_names"] = list(card.class_names)
    if "${" in json.dumps(options):  # a checkpoint is untrusted, and a configuration resolves this
        raise ValueError(f"the data of {config.checkpoint} contain an interpolation; give data=NAME with its options")
    content = {
        "_target_": "milpath.data.StoredBags",
        "path": str(store.path),
        "stores_dir": str(config.paths.stores_dir),
    }
    return OmegaConf.create(content | options), said


@contextmanager
def advice_for_slides(config: DictConfig, data: DictConfig | None) -> Iterator[None]:
    """Let a refusal of labels say the options of slides, which have none of `data`.

    Args:
        config: Root of the `evaluate` command.
        data: What `bags_of_slides` returned, or the `data` of the command.
    """
    try:
        yield
    except ValueError as error:
        if config.slides is None or data is None:
            raise
        text = str(error).replace("data.label_column", "label_column")
        where = f" (with data=bag_store data.path={data.path} for slides and labels)" if _OF_DATA.search(text) else ""
        raise ValueError(f"{text}{where}") from None


def _encode(card: Card, path: Path, bags: Path, **words: Any) -> TilingSummary:
    return open_and_encode(path, bags, card, **words)


def encode_tiles_of(
    datamodule: BagDataModule, config: DictConfig, card: Card, network: nn.Module, encoders: Iterable[type[nn.Module]]
) -> None:
    """Encode the tiles of data for a network of features, once; they are kept in the folder of the data's stores.

    Args:
        datamodule: The data, after `setup`; they keep their tiles for the pictures of a report.
        config: Root of the `evaluate` command.
        card: The card of the network.
        network: The network.
        encoders: The user's own classes, which a card names.

    Raises:
        FileNotFoundError: If the weights of the encoder are not on this machine.
        ValueError: If the card does not say which encoder made the features, or tiles have another size.
    """
    store = datamodule.tile_store
    if takes(network) != "features" or len(store.tile_shape) != 3:
        return
    require_encodable(card, store, store.path, config.checkpoint)
    encoder = open_trained_encoder(
        card.encoder, weights_path=config.encoder_weights_path, weights_dir=config.paths.weights_dir, encoders=encoders
    )
    datamodule.encode_with(TrainedEncoder(encoder, card.encoder))
