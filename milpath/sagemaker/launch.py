"""Train on SageMaker: `python -m milpath.sagemaker.launch experiment=NAME sagemaker.instance_type=ml.g5.xlarge`.

All overrides of `milpath.train` work; `sagemaker.KEY=VALUE` sets the resources, `dry_run=true` prints the request.
"""

import json
import subprocess
import sys
from typing import Any

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.sagemaker.jobs.aws_account import explained, open_sdk
from milpath.sagemaker.jobs.job_configs import LAUNCH, settings_of
from milpath.sagemaker.jobs.prepare_job import prepare_job
from milpath.sagemaker.jobs.training_request import model_trainer, sdk_channels


def run(config: DictConfig) -> dict[str, Any]:
    """Check the training, upload its source and submit it.

    Args:
        config: The composed root of the `sagemaker_launch` command.

    Returns:
        The request that was sent, or would be sent without `dry_run`.

    Raises:
        ValueError: If the training cannot be composed or the account is not ready; the message says what to type.
    """
    settings = settings_of(config)
    if settings.mode == "local" and not config.dry_run:
        _require_docker()
    job = prepare_job(settings, offline=config.dry_run)
    if config.dry_run:
        sys.stdout.write(json.dumps(job.request, indent=2) + "\n")
        return job.request
    local = settings.mode == "local"
    trainer = model_trainer(job.request, open_sdk(job.account, str(settings.bucket)), local=local)
    with explained("submit the job"):
        trainer.train(input_data_config=sdk_channels(job.request), wait=config.wait or local, logs=config.wait)
    if local:
        sys.stdout.write("the job ran in its container on this machine; nothing but S3 was charged\n")
        return job.request
    name = trainer._latest_training_job.training_job_name
    results = "model.tar.gz, output.tar.gz" if settings.compress_output else "model/, output/"
    sys.stdout.write(
        f"submitted {name}: {settings.instance_count} x {' or '.join(settings.instance_types)} in {job.region}\n"
        f"checkpoints: {job.request['CheckpointConfig']['S3Uri']}\n"
        f"results:     {job.request['OutputDataConfig']['S3OutputPath']}/{name}/output/{results}\n"
        f"follow:      aws logs tail /aws/sagemaker/TrainingJobs --follow --log-stream-name-prefix {name}\n"
        f"stop:        aws sagemaker stop-training-job --training-job-name {name}\n"
    )
    return job.request


def _require_docker() -> None:
    """Refuse a container on this machine if docker cannot start one, before anything is uploaded."""
    try:
        # Asks the daemon, and is a command of docker compose.
        subprocess.run(["docker", "compose", "ls"], check=True, capture_output=True, text=True)  # noqa: S607
    except (OSError, subprocess.CalledProcessError) as error:
        reason = " ".join(str(getattr(error, "stderr", "") or error).split())
        raise ValueError(
            f"sagemaker.mode=local needs docker with docker compose, running ({reason[:200]}); without it, run: milpath "
            "sagemaker rehearse"
        ) from None


@command(LAUNCH)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
