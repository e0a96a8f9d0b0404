"""The target of a stain normalisation: fitted on the training split, or read from a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from milpath.data.datamodule import BagDataModule
from milpath.data.loading.fit_stains import fit_stain_target
from milpath.models.encoders import TileEncoder
from milpath.models.stains.stain_normalisation import stain_method
from milpath.records.atomic_files import write_json
from milpath.runs.chosen_parts.stain_target_file import TARGET_FILE, read_stain_target


def with_stain_target(encoder: Mapping[str, Any], datamodule: BagDataModule) -> dict[str, Any]:
    """Return an encoder of a configuration with the values of its stain target instead of `stain_target_path`.

    Without a file they are fitted on the training split, so that no other bag has a share in them.

    Raises:
        ValueError: If the method is unknown, a file holds no target of it, or no training bag has enough tissue.
    """
    content = {name: value for name, value in encoder.items() if not name.startswith("stain_")}
    method, path = encoder.get("stain_normalisation"), encoder.get("stain_target_path")
    if method in (None, "none"):
        if path is not None:
            raise ValueError(
                f"model.encoder.stain_target_path={path} has no use without model.encoder.stain_normalisation=macenko "
                "or reinhard"
            )
        return content
    stain_method(method)
    if path is not None:
        target = read_stain_target(path, method)
    else:
        training = datamodule.label_frame.loc[datamodule.label_frame["split"] == "train", "index"].to_numpy()
        target = fit_stain_target(datamodule.store, training, method)
    return content | {"stain_normalisation": method, "stain_target": target}


def write_stain_target(network: nn.Module, run_dir: Path) -> None:
    """Write `stain_target.json` into the folder of a run whose network normalises stains."""
    encoder = getattr(network, "tile_encoder", None)
    if isinstance(encoder, TileEncoder) and encoder.stains is not None and isinstance(encoder.spec, dict):
        write_json(
            run_dir / TARGET_FILE, {name: encoder.spec[name] for name in ("stain_normalisation", "stain_target")}
        )
