"""Write the archive that an endpoint is made of: `python -m milpath.sagemaker.package checkpoint=PATH`."""

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
        Where it was written.

    Raises:
        FileNotFoundError: If the checkpoint or the folder of the output does not exist.
        ValueError: If the checkpoint is none of milpath.
    """
    path = Path(config.output)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"output={path}: the folder {path.parent} does not exist; make it first")
    write_model_archive(config.checkpoint, path)
    sys.stdout.write(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB; now: python -m milpath.sagemaker.deploy archive={path}\n"
    )
    return path


@command(PACKAGE)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
