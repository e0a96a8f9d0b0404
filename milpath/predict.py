"""Predict slides: `python -m milpath.predict checkpoint=PATH slides=DIR_OR_FILE output=DIR`."""

import sys

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.config.module_loading import collecting_later
from milpath.config.own_parts import import_own_parts


def run(config: DictConfig) -> int:
    """Predict every slide and write tables, annotations and pictures.

    Args:
        config: The composed root of the `predict` command.

    Returns:
        Number of slides that could not be read or have no finite prediction; `failures.csv` lists them.

    Raises:
        ValueError: If no slide could be predicted.
    """
    # Imported here so that --help and mistyped options need only Hydra, not torch.
    with collecting_later():
        from milpath.inference.slide_predictions import write_slide_predictions

    parts = import_own_parts(config.parts)
    return write_slide_predictions(config, parts.networks, parts.encoders)


@command("predict", output="output", after_stop="finished slides are kept; run the same command to continue")
def main(config: DictConfig) -> None:
    """Run the command."""
    if run(config) and config.on_error == "fail":
        sys.exit(1)


if __name__ == "__main__":
    main()
