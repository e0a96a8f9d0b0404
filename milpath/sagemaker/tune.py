"""Hyperparameter search on SageMaker: `python -m milpath.sagemaker.tune 'tune.ranges={optimizer.lr: {...}}' ...`.

All overrides of `milpath.sagemaker.launch` work as well.
"""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any, cast

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from milpath.config.command import command
from milpath.sagemaker.jobs.aws_account import explained
from milpath.sagemaker.jobs.job_configs import TUNE, command_line, job_overrides, override_key, settings_of
from milpath.sagemaker.jobs.prepare_job import prepare_job
from milpath.sagemaker.jobs.training_request import metric_definition
from milpath.sagemaker.tuning.tuning_ranges import STRATEGIES, Range, read_ranges
from milpath.sagemaker.tuning.tuning_request import tuning_request

_SECONDS = 30


def run(config: DictConfig) -> str | None:
    """Check the search, upload the source and submit it.

    Args:
        config: The composed root of the `sagemaker_tune` command.

    Returns:
        Name of the tuning job; None with `dry_run`.

    Raises:
        ValueError: If the search or the account is not ready; the message says what to type.
    """
    settings = settings_of(config)
    settings.require_service("tune")
    tune = cast(dict[str, Any], OmegaConf.to_container(config.tune, resolve=True))
    ranges = read_ranges(tune["ranges"])
    if tune["strategy"] not in STRATEGIES:
        raise ValueError(f"tune.strategy={tune['strategy']} must be one of {', '.join(STRATEGIES)}")
    _require_keys(ranges)
    job = prepare_job(settings, offline=config.dry_run)
    objective = metric_definition(tune["objective"])
    request = tuning_request(job.request, tune, ranges, objective, f"{datetime.now(UTC):%y%m%d%H%M%S}")
    if config.dry_run:
        sys.stdout.write(json.dumps(request, indent=2) + "\n")
        return None
    client, name = job.account.client("sagemaker"), str(request["HyperParameterTuningJobName"])
    with explained("submit the search"):
        client.create_hyper_parameter_tuning_job(**request)
    best = f"aws sagemaker describe-hyper-parameter-tuning-job --hyper-parameter-tuning-job-name {name}"
    sys.stdout.write(
        f"submitted {name}: {tune['max_jobs']} trainings, {tune['max_parallel_jobs']} at a time\n"
        f"best so far: {best} --query BestTrainingJob\n"
    )
    if config.wait:
        _wait(client, name)
    return name


def _wait(client: Any, name: str) -> None:
    """Wait until a search has ended, and print its best training."""
    while True:
        with explained(f"describe {name}"):
            found = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if (status := found["HyperParameterTuningJobStatus"]) not in ("InProgress", "Stopping"):
            break
        time.sleep(_SECONDS)
    if status != "Completed":
        reason = " ".join(found.get("FailureReason", "no reason was given").split())
        raise ValueError(f"{name} is {status}: {reason}")
    best = found.get("BestTrainingJob", {}).get("TrainingJobName", "none has the objective in its output")
    sys.stdout.write(f"completed {name}; best training: {best}\n")


def _require_keys(ranges: list[Range]) -> None:
    """Compose the training with a value of each range, to catch mistyped keys before submission."""
    keys = {item.key for item in ranges}
    words = [word for word in job_overrides(command_line()) if override_key(word) not in keys]
    try:
        compose("train", [*words, *(item.example for item in ranges)])
    except HydraException as error:
        raise ValueError(f"tune.ranges: {str(error).splitlines()[0]}") from None


@command(TUNE)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
