"""Score an endpoint on the test bags: `python -m milpath.sagemaker.score endpoint=NAME data=NAME`.

Writes `metrics.json` and `predictions.csv` as `milpath.evaluate` does; for the same checkpoint they are identical.
"""

from typing import TYPE_CHECKING

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.config.module_loading import collecting_later
from milpath.sagemaker.jobs.job_configs import SCORE

if TYPE_CHECKING:
    from milpath.runs.result_files import Metrics


def run(config: DictConfig) -> "Metrics":
    """Send every bag of some splits to an endpoint and evaluate its predictions.

    See `milpath.sagemaker.scoring.endpoint_scores.score_endpoint`.
    """
    # Imported here so that --help and mistyped options need only Hydra, not torch.
    with collecting_later():
        from milpath.sagemaker.scoring.endpoint_scores import score_endpoint

    return score_endpoint(config)


@command(SCORE)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
