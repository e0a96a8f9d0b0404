"""Write the model archive of an endpoint: `python -m milpath.sagemaker.package checkpoint=PATH`."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.config.module_loading import collecting_later
from milpath.sagemaker.jobs.endpoint_request import require_one_checkpoint
from milpath.sagemaker.jobs.job_configs import PACKAGE


def run(config: DictConfig) -> Path:
    """Write `model.tar.gz`.

    Args:
        config: The composed root of the `sagemaker_package` command.

    Returns:
        The path of the archive.

    Raises:
        FileNotFoundError: If the checkpoint, the folder of the output or the weights of the encoder do not exist.
        ValueError: If it is not one milpath checkpoint, its encoder is unknown, or it needs classes that are not in `parts`.
    """
    require_one_checkpoint(config.checkpoint)
    if config.encoder_weights_path is not None and not config.include_encoder:
        raise ValueError(
            f"encoder_weights_path={config.encoder_weights_path} is packed with include_encoder=true; add it, or leave "
            "encoder_weights_path out"
        )
    path = Path(config.output)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"output={path}: the folder {path.parent} does not exist; create it first")
    # Imported here so that --help and mistyped options need only Hydra, not torch.
    with collecting_later():
        from milpath.models.checkpoint import load_card
        from milpath.models.encoders.trained_encoder import describes_encoder, weights_of_trained
        from milpath.sagemaker.jobs.model_archive import write_model_archive

    encoder_path = None
    if config.include_encoder:
        card = load_card(config.checkpoint)
        if not describes_encoder(card.encoder):
            raise ValueError(
                f"include_encoder=true needs a network trained on features of milpath extract; {config.checkpoint} does not "
                "say which encoder it needs"
            )
        encoder_path = weights_of_trained(card.encoder, config.encoder_weights_path, config.paths.weights_dir)
    write_model_archive(config.checkpoint, path, encoder_path, list(config.parts))
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
