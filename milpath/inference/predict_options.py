"""Options of `predict` that are checked before an earlier prediction is deleted and before any slide is cut."""

import json
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig
from torch.nn import Module

from milpath.data.store.bag_store import BagStore
from milpath.drawing.picture_frame import colour_table
from milpath.inference.dense_map import DenseMapper
from milpath.inference.input_patients import require_patients
from milpath.inference.open_input import (
    FEATURES,
    SLIDES,
    SLIDES_TO_ENCODE,
    STORE,
    TILES,
    TILES_TO_ENCODE,
    explaining_features,
)
from milpath.inference.pictures.mask_providers import providers_of
from milpath.inference.pictures.open_pictures import VIEWER, chosen_formats
from milpath.inference.pictures.overlays import require_opacity
from milpath.inference.prediction_folder import WRITTEN, holds_prediction
from milpath.inference.slide_page.slide_pages import require_pixels
from milpath.models.card import Card
from milpath.models.encoders.trained_encoder import require_weights_used
from milpath.models.network_input import takes
from milpath.records.label_table import read_table
from milpath.slides.slide_files import find_slides, require_slides_dir
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.kept_inputs import require_kept
from milpath.tiling.slide_plan import plan_slides, require_masks
from milpath.tiling.slide_resolutions import require_known_choice
from milpath.tiling.slide_run import require_sensible

_OTHER_INPUTS = ("slides_dir", "masks", "labels", "slides_table", "resolutions", "encoder_weights_path")
# The kinds of slides for which a table is read, and what the others are.
_READ_FOR = {"labels": (SLIDES, SLIDES_TO_ENCODE, FEATURES), "resolutions": (SLIDES, SLIDES_TO_ENCODE)}
_HOLDS = {
    STORE: "is a bag store", FEATURES: "holds features", TILES: "holds tiles", TILES_TO_ENCODE: "holds tiles",
}  # fmt: skip


def require_values(config: DictConfig) -> None:
    """Refuse options that are wrong for any network and any slides.

    Args:
        config: Root of the `predict` command.

    Raises:
        FileNotFoundError: If an input does not exist.
        ValueError: If an option is out of its range, unknown, or belongs to one that is not given.
    """
    require_sensible(config.on_error, config.num_workers, config.overwrite)
    require_known_choice(config.mixed_resolution)
    chosen_formats(config.formats, config.pictures)
    require_opacity(config.alpha)
    colour_table(config.colour_map)
    require_pixels(config.viewer_pixels)
    if config.batch_size is not None and config.batch_size < 1:
        raise ValueError(
            f"batch_size={config.batch_size} must be at least 1, or null for as many as fit 32 MB of tiles"
        )
    if config.id_column is not None and config.labels is None and config.resolutions is None:
        raise ValueError(
            f"id_column={config.id_column} is a column of labels or resolutions; give one of them, or leave id_column out"
        )
    if config.slide_column is not None and config.slides_table is None:
        raise ValueError(
            f"slide_column={config.slide_column} is a column of slides_table; give slides_table=CSV, or leave it out"
        )
    require_slides_dir(config.slides_dir)
    if config.masks is not None:
        require_masks(Path(config.masks))


def drawn_options(config: DictConfig) -> str:
    """Return the options of what is drawn of each slide as JSON, which an interrupted prediction goes on with.

    Args:
        config: Root of the `predict` command.
    """
    formats = chosen_formats(config.formats, config.pictures)
    names = ["pictures", "dense"]
    if config.pictures or config.dense is not None or VIEWER in formats:
        names += ["alpha", "colour_map"]
    if VIEWER in formats:
        names.append("viewer_pixels")
    return json.dumps({"formats": sorted(formats)} | {name: config[name] for name in names})


def require_inputs_kept(config: DictConfig, kind: str) -> None:
    """Refuse an output in which an input is among the files of an earlier or of this prediction.

    Args:
        config: Root of the `predict` command.
        kind: What the slides are (see `kind_of_input`).

    Raises:
        ValueError: With the input.
    """
    output, files = Path(config.output), {name: config[name] for name in _OTHER_INPUTS}
    if isinstance(config.checkpoint, str):
        files["checkpoint"] = config.checkpoint
    require_kept(output, WRITTEN, files)
    # A store of an earlier prediction is read where it is.
    require_kept(output, [name for name in WRITTEN if kind != STORE or name != "bags"], {"slides": config.slides})


def require_fitting(config: DictConfig, card: Card, network: Module, kind: str, aggregate: str | None) -> None:
    """Refuse options that do not fit the network or the slides; nothing is written, and no slide is cut.

    Args:
        config: Root of the `predict` command.
        card: The card of the network.
        network: The network.
        kind: What the slides are (see `kind_of_input`).
        aggregate: How predictions of slides become those of patients.

    Raises:
        FileNotFoundError: If a table does not exist.
        ValueError: If options, slides and network do not fit together.
    """
    path, output = Path(config.slides), Path(config.output)
    require_weights_used(network, config.encoder_weights_path)
    bags = BagStore.open(path, verify=False) if (path / "store.json").is_file() else None
    _require_slides(config, card, kind, path, output)
    _require_pictures(config, card, network, kind, bags)
    table = bags.bags if bags is not None else _labels(config)
    columns = [] if table is None or kind == TILES else list(table.columns)
    require_patients(
        columns, card.data, slides_table=config.slides_table, patient_column=config.patient_column,
        slide_column=config.slide_column, aggregate=aggregate,
    )  # fmt: skip


def _require_pictures(config: DictConfig, card: Card, network: Module, kind: str, bags: BagStore | None) -> None:
    """Refuse pictures that these slides or this network do not support."""
    of_features = takes(network) == "features" or (bags is not None and len(bags.tile_shape) != 3)
    if config.dense is not None and of_features:
        raise ValueError(f"dense={config.dense} needs a network of tiles, but this one takes features; set dense=null")
    wanted = [f"{name}={config[name]}" for name in ("slides_dir", "masks", "dense") if config[name] is not None]
    if wanted and kind == TILES:
        raise ValueError(f"{wanted[0]} needs whole slides, but {config.slides} contains tiles; leave it out")
    if config.dense is not None:
        DenseMapper(network, TileOptions.from_tiling(card.tiling), config.dense)
    if kind == FEATURES and VIEWER in chosen_formats(config.formats, config.pictures):
        wanted.append(f"formats=[{VIEWER}]")
    where = Path(config.slides_dir or config.slides)
    if wanted and kind in (FEATURES, TILES_TO_ENCODE) and not (where.exists() and find_slides(where).found):
        raise ValueError(
            f"{wanted[0]} needs whole slides, but {where} holds none; set slides_dir=FOLDER of the slides, or leave it out"
        )
    if config.masks is not None and kind not in (SLIDES, STORE):
        table = bags.slide_store.bags if bags is not None else _labels(config)
        providers_of(table, require_masks(Path(config.masks)))


def _require_slides(config: DictConfig, card: Card, kind: str, path: Path, output: Path) -> None:
    """Refuse tables and masks that do not fit the slides, if it costs anything to notice it later."""
    for name, kinds in _READ_FOR.items():
        if config[name] is not None and kind not in kinds:
            wanted = "whole slides and feature files" if FEATURES in kinds else "whole slides"
            raise ValueError(f"{name}={config[name]} is only for {wanted}; {path} {_HOLDS[kind]}; leave it out")
    if kind not in (SLIDES, SLIDES_TO_ENCODE):
        return
    if kind == SLIDES_TO_ENCODE:
        from milpath.inference.encode_input import require_described_encoder

        require_described_encoder(card, path)
    TileOptions.from_tiling(card.tiling)
    if config.masks is None and not (config.overwrite and holds_prediction(output)):
        return
    labels, masks, resolutions = (
        None if config[name] is None else Path(config[name]) for name in ("labels", "masks", "resolutions")
    )
    with explaining_features(path):
        plan_slides(path, labels, masks, output / "bags", id_column=config.id_column, resolutions=resolutions)


def _labels(config: DictConfig) -> pd.DataFrame | None:
    """Return the label table; `None` if none is given."""
    if config.labels is None:
        return None
    return read_table(config.labels, what="label table", id_column=config.id_column, id_option="id_column")
