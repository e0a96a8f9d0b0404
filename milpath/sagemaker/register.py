"""Register a trained network: `python -m milpath.sagemaker.register run=runs/NAME bucket=... [group=milpath]`.

A version of a model package group: the archive that an endpoint serves, its card, metrics, approval and data digests.
"""

from typing import Any

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.config.module_loading import collecting_later
from milpath.sagemaker.jobs.job_configs import REGISTER


def run(config: DictConfig) -> dict[str, Any]:
    """Upload what is not in S3 yet, and create a version of the model package group.

    See `milpath.sagemaker.registry.registration.register_run`.
    """
    # Imported here so that --help and mistyped options need only Hydra, not torch.
    with collecting_later():
        from milpath.sagemaker.registry.registration import register_run

    return register_run(config)


@command(REGISTER)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
