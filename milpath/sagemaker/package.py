"""Write the model archive of an endpoint: `python -m milpath.sagemaker.package checkpoint=PATH`."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.sagemaker.jobs.job_configs import PACKAGE
from milpath.sagemaker.jobs.model_archive import write_model_archive


def run(config: DictConfig) -> Path:
    """Write `model.tar.gz`.

    Args:
        config: The composed root of the `sagemaker_package` command.

    Returns:
        The path of the archive.

    Raises:
        FileNotFoundError: If the checkpoint or the folder of the output does not exist.
        ValueError: If it is not a milpath checkpoint.
    """
    path = Path(config.output)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"output={path}: the folder {path.parent} does not exist; create it first")
    write_model_archive(config.checkpoint, path)
    sys.stdout.write(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB; next: python -m milpath.sagemaker.deploy archive={path}\n"
    )
    return path


@command(PACKAGE)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
