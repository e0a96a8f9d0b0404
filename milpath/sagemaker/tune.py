"""Hyperparameter search on SageMaker: `python -m milpath.sagemaker.tune 'tune.ranges={optimizer.lr: {...}}' ...`.

All overrides of `milpath.sagemaker.launch` work as well.
"""

import json
import sys
from typing import Any, cast

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from milpath.config.command import command
from milpath.sagemaker.jobs.aws_account import explained, open_sdk, sdk
from milpath.sagemaker.jobs.job_configs import TUNE, command_line, job_overrides, override_key, settings_of
from milpath.sagemaker.jobs.prepare_job import prepare_job
from milpath.sagemaker.jobs.training_request import metric_definition, model_trainer, sdk_channels
from milpath.sagemaker.jobs.tuning_ranges import STRATEGIES, Range, read_ranges, sdk_ranges


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
    tune = cast(dict[str, Any], OmegaConf.to_container(config.tune, resolve=True))
    ranges = read_ranges(tune["ranges"])
    if tune["strategy"] not in STRATEGIES:
        raise ValueError(f"tune.strategy={tune['strategy']} must be one of {', '.join(STRATEGIES)}")
    _require_keys(ranges)
    job = prepare_job(settings, offline=config.dry_run)
    objective = metric_definition(tune["objective"])
    if config.dry_run:
        sys.stdout.write(json.dumps({"TrainingJobDefinition": job.request, "Tuning": tune}, indent=2) + "\n")
        return None
    session = open_sdk(job.account, str(settings.bucket))
    definitions = {d["Name"]: d for d in [*job.request["AlgorithmSpecification"]["MetricDefinitions"], objective]}
    tuner = sdk("sagemaker.train.tuner").HyperparameterTuner(
        model_trainer=model_trainer(job.request, session),
        objective_metric_name=objective["Name"],
        hyperparameter_ranges=sdk_ranges(ranges),
        metric_definitions=list(definitions.values()),
        strategy=tune["strategy"],
        objective_type="Maximize" if tune["maximize"] else "Minimize",
        max_jobs=tune["max_jobs"],
        max_parallel_jobs=tune["max_parallel_jobs"],
        early_stopping_type="Auto" if tune["early_stopping"] else "Off",
        base_tuning_job_name=settings.job_name[:15],
    )
    with explained("submit the search"):
        tuner.tune(inputs=sdk_channels(job.request), wait=config.wait)
    name = str(tuner.latest_tuning_job.hyper_parameter_tuning_job_name)
    sys.stdout.write(
        f"submitted {name}: {tune['max_jobs']} trainings, {tune['max_parallel_jobs']} at a time\n"
        f"best so far: aws sagemaker describe-hyper-parameter-tuning-job --hyper-parameter-tuning-job-name {name} "
        "--query BestTrainingJob\n"
    )
    return name


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
