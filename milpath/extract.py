"""Features of slides: `python -m milpath.extract slides=DIR output=DIR encoder=NAME [encoder.weights_path=FILE] ...`."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.config.module_loading import collecting_later
from milpath.config.slide_roots import ExtractConfig
from milpath.records.error_text import counted
from milpath.slides.tiling_options import OPTION_NAMES, require_used

if TYPE_CHECKING:
    from milpath.tiling.slide_run import TilingSummary


def run(config: DictConfig) -> "TilingSummary":
    """Encode every slide that has not been encoded yet, and write the store once all have been.

    Args:
        config: The composed root of the `extract` command.
    """
    with collecting_later():
        from milpath.encoding.extract_features import extract_features, holds_cut_tiles, tile_options
        from milpath.runs.chosen_parts.build_encoder import build_encoder, encoder_facts

    # Options are checked before weights are read.
    facts = encoder_facts(config.encoder)
    words = {name: config[name] for name in OPTION_NAMES}
    if holds_cut_tiles(Path(config.slides), facts.get("tile_size")):
        options = None
        _refuse_cutting(config, facts)
    else:
        if config.level is not None and config.microns_per_pixel is not None:
            raise ValueError(f"give level={config.level} or microns_per_pixel={config.microns_per_pixel}, not both")
        options = tile_options(facts, **words)
        require_used(options, ExtractConfig.num_tiles)
    with _options_as_typed():
        encoder = build_encoder(config.encoder)
    return extract_features(
        config.slides, config.output, encoder, encoder.card.to_dict(), options,
        labels=config.labels, id_column=config.id_column, label_column=config.label_column,
        formats=list(config.format), precision=config.precision, dtype=config.dtype,
        device=config.device, batch_size=_batch_size(config.batch_size), num_workers=config.num_workers,
        on_error=config.on_error, overwrite=config.overwrite, shard=config.shard, max_seconds=config.max_seconds,
        resolutions=config.resolutions, mixed_resolution=config.mixed_resolution,
    )  # fmt: skip


def _refuse_cutting(config: DictConfig, facts: Mapping[str, Any]) -> None:
    """Refuse options of cutting for tiles that were cut already, unless they were cut like that."""
    from milpath.data.store.bag_store import BagStore
    from milpath.encoding.stored_tiles import tiling_of

    slides, unless_given = Path(config.slides), ExtractConfig()
    was_cut: Mapping[str, Any] = {"tile_size": facts.get("tile_size")}
    if (slides / "store.json").is_file():
        was_cut = tiling_of(BagStore.open(slides, verify=False))
    for name in OPTION_NAMES:
        value = config[name]
        if value != getattr(unless_given, name) and value != was_cut.get(name):
            raise ValueError(
                f"{name}={value} says how slides are cut, but {slides} holds tiles that were cut before; leave it out, or "
                "give the slides"
            )


@contextmanager
def _options_as_typed() -> Iterator[None]:
    """Name the options of an encoder as this command has them, in the group `encoder`."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        text = re.sub(r"(?<![\w.])(?=(weights_path|download)=)", "encoder.", str(error))
        raise type(error)(text) from None


def _batch_size(value: Any) -> int | None:
    """Return the number of tiles of a batch, `None` for auto."""
    if value in (None, "auto"):
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"batch_size={value} must be auto or a whole number")
    return value


def describe(summary: "TilingSummary", output: str) -> str:
    """Return a summary of a run in a few lines."""
    from milpath.tiling.slide_run import describe_run

    done = f"{counted(summary.num_cut, 'slide')} encoded, {60 * summary.rate:,.1f} slides/min"
    return describe_run(summary, output, done, f"the feature store is complete: {output}")


@command("extract", output="output", after_stop="finished slides are kept; run the same command to continue")
def main(config: DictConfig) -> None:
    """Run the command."""
    summary = run(config)
    from milpath.tiling.slide_run import require_complete_store

    sys.stdout.write(describe(summary, config.output))
    require_complete_store(summary, config.output, config.on_error)


if __name__ == "__main__":
    main()
