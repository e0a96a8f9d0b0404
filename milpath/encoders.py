"""List pretrained encoders, or check one: `python -m milpath.encoders`, `python -m milpath.encoders check NAME`."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from milpath.config.command import command
from milpath.config.module_loading import collecting_later
from milpath.config.own_parts import import_own_parts

if TYPE_CHECKING:
    import torch

    from milpath.models.encoders import PretrainedEncoder

_NUM_TILES = 4


def run(config: DictConfig) -> list[str]:
    """Return the lines that the command prints.

    Args:
        config: The composed root of the `encoders` command.
    """
    if config.encoder is None:
        return list_of_encoders(config.paths.weights_dir)
    # Imported here so that --help and mistyped options need only Hydra, not torch.
    with collecting_later():
        from milpath.models.devices import choose_device
        from milpath.runs.chosen_parts.build_encoder import build_encoder

    started = time.perf_counter()
    encoder = build_encoder(config.encoder, import_own_parts(config.parts).encoders)
    loaded = time.perf_counter() - started
    return [*_facts(encoder, loaded), *_check(encoder, choose_device(config.device)), "ok"]


def list_of_encoders(weights_dir: str | None) -> list[str]:
    """Return a table of all encoders, one per line: size, resolution, licence, and whether its weights are here.

    Args:
        weights_dir: Folder of weights.
    """
    with collecting_later():
        from milpath.models.encoders import encoder_card, encoder_names
        from milpath.models.encoders.find_weights import how_to_get, present_weights

    rows = [["encoder", "features", "tile", "um/px", "licence", "gated", "weights"]]
    for name in encoder_names():
        card = encoder_card(name)
        path = present_weights(card, weights_dir)
        microns = "-" if card.microns_per_pixel is None else f"{card.microns_per_pixel:g}"
        rows.append([
            name, f"{card.embedding_dim:,}", f"{card.tile_size} px", microns, card.licence, "yes" if card.gated else "no",
            f"missing: {card.access}" if path is None else f"present: {path}",
        ])  # fmt: skip
    example = encoder_card("uni2_h")
    return [
        *aligned(rows),
        "",
        f"for missing weights such as those of {example.name}: {how_to_get(example, weights_dir)}",
        "milpath encoders check NAME loads an encoder and runs a tile",
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in columns; the last column is as long as it is.

    Example:
        >>> aligned([["encoder", "weights"], ["uni", "missing"]])
        ['encoder  weights', 'uni      missing']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _facts(encoder: "PretrainedEncoder", seconds: float) -> list[str]:
    """Return what an encoder is."""
    card = encoder.card
    size = sum(tensor.nbytes for tensor in encoder.network.state_dict().values()) / 1e6
    parameters = "" if card.num_parameters is None else f", {card.num_parameters:,} parameters"
    return [
        f"encoder   {card.describe()}",
        f"network   {card.library} {card.architecture}, output {card.output}{parameters}",
        f"input     mean {list(card.mean)}, std {list(card.std)}, tiles of another size: {card.other_tile_sizes}",
        f"licence   {card.licence}{', gated' if card.gated else ''}; paper: {card.paper or 'not stated'}",
        f"weights   loaded in {seconds:.1f} s, {size:,.0f} MB in float32, sha256 {card.weights_sha256}",
    ]


def _check(encoder: "PretrainedEncoder", device: "torch.device") -> list[str]:
    """Run drawn tiles; return what came out.

    Raises:
        ValueError: If the features are not finite, or the same for different tiles.
    """
    import torch

    encoder.to(device)
    tiles = torch.from_numpy(drawn_tiles(_NUM_TILES, encoder.card.tile_size)).to(device)
    started = time.perf_counter()
    with torch.inference_mode():
        features = encoder(tiles).float().cpu()
    seconds = time.perf_counter() - started
    return [
        f"features  {len(features)} drawn tiles of {encoder.card.tile_size} px: {features.shape[1]:,} features, mean "
        f"{features.mean():.4f}, standard deviation {features.std():.4f}, {seconds:.2f} s on {device.type}"
    ]


def drawn_tiles(num_tiles: int, size: int) -> NDArray[np.float32]:
    """Return tiles that look like stained tissue from afar, float32 `(num_tiles, 3, size, size)` in [0, 1].

    The same on every machine, so that the printed numbers can be compared.
    """
    y, x = np.mgrid[0:size, 0:size] / size
    number = np.arange(1, num_tiles + 1)[:, None, None]
    nuclei = (np.sin(9 * number * x) * np.cos(7 * number * y) > 0.6)[:, None]
    pink, violet = np.array([[0.92, 0.70, 0.82], [0.45, 0.25, 0.55]])[:, None, :, None, None]
    tiles: NDArray[np.float32] = np.where(nuclei, violet, pink).astype(np.float32)
    return tiles


def overrides(words: Sequence[str]) -> list[str]:
    """Return the command line as Hydra reads it: `check NAME` is `encoder=NAME`.

    Args:
        words: The command-line arguments; `weights_path`, `weights_dir` and `download` belong to the encoder.

    Example:
        >>> overrides(["check", "uni", "weights_path=uni.bin"])
        ['encoder=uni', 'encoder.weights_path=uni.bin']
    """
    if not words or words[0] != "check":
        return list(words)
    if len(words) > 1 and "=" not in words[1] and not words[1].startswith("-"):
        words = [f"encoder={words[1]}", *words[2:]]
    else:
        words = words[1:]
    of_encoder = ("weights_path=", "weights_dir=", "download=")
    return [f"encoder.{word}" if word.startswith(of_encoder) else word for word in words]


@command("encoders")
def _main(config: DictConfig) -> None:
    """Run the command."""
    sys.stdout.write("\n".join(run(config)) + "\n")


def main() -> None:
    """Run the command line."""
    words = sys.argv[1:]
    if words == ["check"]:
        sys.stderr.write("milpath encoders check needs the name of an encoder; milpath encoders lists them\n")
        sys.exit(2)
    sys.argv[1:] = overrides(words)
    _main()


if __name__ == "__main__":
    main()
