"""Cut slides into a bag store: `python -m milpath.tile slides=DIR output=DIR [labels=CSV] [masks=DIR] ...`."""

import sys
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.records.error_text import counted
from milpath.slides.tiling_options import OPTION_NAMES, TileOptions, require_used

if TYPE_CHECKING:
    from milpath.tiling.slide_run import TilingSummary


def run(config: DictConfig) -> "TilingSummary":
    """Cut every slide that has not been cut yet, and write the store once all have been.

    Args:
        config: The composed root of the `tile` command.
    """
    # Imported here so that --help and mistyped options do not wait for pandas.
    from milpath.tiling.slide_bags import build_slide_store

    words = {str(key): value for key, value in config.items()}
    options = TileOptions(**{name: words.pop(name) for name in OPTION_NAMES})
    require_used(options)
    return build_slide_store(words.pop("slides"), words.pop("output"), options, **words)


def describe(summary: "TilingSummary", output: str) -> str:
    """Return a summary of a run in a few lines."""
    from milpath.tiling.slide_run import describe_run

    memory = f"{summary.peak_memory / 1e6:,.0f} MB peak memory per worker"
    done = f"{counted(summary.num_cut, 'slide')} cut, {summary.rate:.1f} slides/s, {memory}"
    complete = f"the bag store is complete: {output}; check the tiles in {output}/overview"
    return describe_run(summary, output, done, complete)


@command("tile", output="output", after_stop="finished slides are kept; run the same command to continue")
def main(config: DictConfig) -> None:
    """Run the command."""
    summary = run(config)
    from milpath.tiling.slide_run import require_complete_store

    sys.stdout.write(describe(summary, config.output))
    require_complete_store(summary, config.output, config.on_error)


if __name__ == "__main__":
    main()
