"""Score many slides or bags in S3: `python -m milpath.sagemaker.transform checkpoint=best.ckpt slides=s3://... output=s3://...`.

Run the same command again to continue, and to collect the tables once all slides are done.
"""

import sys

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.config.module_loading import collecting_later
from milpath.sagemaker.jobs.job_configs import TRANSFORM


def run(config: DictConfig) -> int:
    """Submit a job for what is not scored yet, or collect the results once everything is.

    See `milpath.sagemaker.scoring.scored_objects.score_objects`.
    """
    # Imported here so that --help and mistyped options need only Hydra, not torch.
    with collecting_later():
        from milpath.sagemaker.scoring.scored_objects import score_objects

    return score_objects(config)


@command(TRANSFORM)
def main(config: DictConfig) -> None:
    """Run the command."""
    if run(config) and config.on_error == "fail":
        sys.exit(1)


if __name__ == "__main__":
    main()
