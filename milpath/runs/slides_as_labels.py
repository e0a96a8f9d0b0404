"""The table of slides of a study as the label table of its files."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf


def take_slides_for_labels(config: DictConfig) -> None:
    """Use the table of slides of a `data` configuration where it names no labels of slides.

    A source of files takes its slides from a label table. In a study the table of slides names them, and the labels may be
    those of the patients.

    Args:
        config: The `data` group; `labels` and `id_column` are set if `slides` is given and `labels` is `null` or missing.

    Raises:
        FileNotFoundError: If the labels are at a path without a file, such as the default of a data set.
        ValueError: If a column of the labels is given, but no labels.
    """
    if not config.get("slides") or "id_column" not in config:
        return
    missing = OmegaConf.is_missing(config, "labels")
    if not missing and "labels" not in config:
        return
    if not missing and config.labels is not None:
        if not any((Path(folder or "") / config.labels).is_file() for folder in ("", config.get("path"))):
            raise FileNotFoundError(
                f"no labels at data.labels={config.labels}; with data.slides={config.slides} give data.labels=null to take "
                "the slides from that table, or the path of the labels"
            )
        return
    # Images have a column of their own by default.
    if "images" not in config and config.id_column not in (None, config.get("slide_column")):
        raise ValueError(
            f"data.id_column={config.id_column} is a column of data.labels, which is null: the slides are those of "
            f"data.slides={config.slides}; give data.slide_column={config.id_column}, or leave it out"
        )
    # Images look for their labels next to them.
    config.labels = str(Path(config.slides).absolute()) if "images" in config else config.slides
    config.id_column = config.get("slide_column")
