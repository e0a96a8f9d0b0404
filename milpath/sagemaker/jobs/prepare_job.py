"""A training, composed and checked, with its source in S3 and its request ready to be sent."""

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from milpath.sagemaker.jobs.aws_account import open_account, require_bucket, require_objects, require_role, upload
from milpath.sagemaker.jobs.config_check import check_targets
from milpath.sagemaker.jobs.images import image_address
from milpath.sagemaker.jobs.job_configs import compose_job, own_config_dirs
from milpath.sagemaker.jobs.job_settings import JobSettings
from milpath.sagemaker.jobs.source_archive import write_source
from milpath.sagemaker.jobs.training_request import training_request


@dataclass(frozen=True)
class Job:
    """A request for a training, and the account that sends it (None when nothing is to be sent)."""

    request: dict[str, Any]
    region: str
    account: Any


def prepare_job(settings: JobSettings, *, offline: bool = False) -> Job:
    """Check a training and upload its source; called inside a command, whose words are those of the training.

    Args:
        settings: Where and on what the job runs.
        offline: Whether AWS is left alone: nothing is looked up or uploaded.

    Returns:
        The job.

    Raises:
        ValueError: If the training or the account is not ready, before anything costs money.
    """
    training, overrides = compose_job()
    check_targets(training)
    _require_same_backend(str(overrides), settings)
    role = require_role(settings.role)
    account = None
    if offline:
        if settings.region is None:
            raise ValueError("dry_run asks AWS nothing, so it needs sagemaker.region=eu-central-1 (or yours)")
        region = settings.region
    else:
        account = open_account(settings.region)
        region = account.region_name
        require_bucket(account, str(settings.bucket))
        for address in filter(None, (settings.training, settings.testing)):
            require_objects(account, address)
    image = settings.image or image_address(
        "training",
        region=region,
        version=settings.image_version,
        python=settings.image_python,
        instance_type=settings.instance_type,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.tar.gz"
        digest = write_source(path, overrides, own_config_dirs(), settings.requirements)
        source = f"{settings.address}/source/{digest}/source.tar.gz"
        if account is not None:
            upload(account, path, source)
    run_id = f"{settings.job_name}-{datetime.now(UTC):%Y%m%d%H%M%S}"
    request = training_request(settings, region=region, role=role, image=image, source=source, run_id=run_id)
    return Job(request, region, account)


def _require_same_backend(words: str, settings: JobSettings) -> None:
    """Refuse a trainer that the launcher of the job cannot serve."""
    if "trainer=sagemaker_smddp" in words and settings.distribution != "smddp":
        raise ValueError(
            f"trainer=sagemaker_smddp needs the SMDDP launcher, but sagemaker.distribution={settings.distribution}; "
            "add sagemaker=smddp, or use trainer=sagemaker"
        )
