"""The target of a stain normalisation in a file: that of a run, or a picture of stained tissue."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from milpath.models.network_input import to_network_input
from milpath.models.stains.stain_normalisation import stain_method
from milpath.models.stains.tissue_pixels import tissue_pixels
from milpath.records.error_text import reason_of
from milpath.records.plain_values import brief, parse_json

TARGET_FILE = "stain_target.json"
_MOST_BYTES, _MOST_PIXELS = 64 << 20, 64_000_000
_SIDE = 64


def read_stain_target(path: str | Path, method: str) -> dict[str, Any]:
    """Return the target in a `stain_target.json`, or that of a picture of stained tissue.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is neither, belongs to another method, or the picture shows too little stained tissue.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"stain_target_path={path} does not exist; give a {TARGET_FILE} of a run, or a picture")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"stain_target_path={path} is larger than 64 MB; give a {TARGET_FILE} of a run, or a picture")
    if path.suffix.lower() != ".json":
        return _of_picture(path, method)
    content = parse_json(path.read_text(encoding="utf-8", errors="replace"), str(path))
    if not isinstance(content, Mapping) or not {"stain_normalisation", "stain_target"} <= content.keys():
        raise ValueError(f"{path} must have stain_normalisation and stain_target, not {brief(content)}")
    if content["stain_normalisation"] != method:
        raise ValueError(
            f"{path} is a target of {brief(content['stain_normalisation'])}; set stain_normalisation to it, "
            f"or give a target of {method}"
        )
    try:
        stain_method(method).tensor_of(content["stain_target"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return dict(content["stain_target"])


def _of_picture(path: Path, method: str) -> dict[str, Any]:
    """Return the target of a picture."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{path} has more than {_MOST_PIXELS:,} pixels; give a part of it")
            pixels = np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError(f"{path} is neither a {TARGET_FILE} nor a picture") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is a damaged picture ({reason_of(error)})") from None
    rows, columns = (side // _SIDE for side in pixels.shape[:2])
    if not rows * columns:
        raise ValueError(f"{path} must have at least {_SIDE} x {_SIDE} px, not {pixels.shape[1]} x {pixels.shape[0]}")
    cut = pixels[: rows * _SIDE, : columns * _SIDE].reshape(rows, _SIDE, columns, _SIDE, 3).swapaxes(1, 2)
    tiles = to_network_input(torch.from_numpy(np.ascontiguousarray(cut.reshape(-1, _SIDE, _SIDE, 3))))
    chosen = stain_method(method)
    statistics, sound = chosen.statistics(*tissue_pixels(tiles[None], None))
    if not bool(sound[0]):
        raise ValueError(f"{path} shows too little stained tissue for a target of {method}; give another picture")
    return chosen.target_of(statistics)
