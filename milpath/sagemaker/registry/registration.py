"""A version of a model package group from a run and its archive."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from milpath.records.digests import sha256_of_text
from milpath.records.error_text import reason_of
from milpath.reports.run_folder import IDENTITY_FILE
from milpath.sagemaker.account.image_end import chosen_image
from milpath.sagemaker.jobs.aws_account import explained, open_account, require_bucket, upload
from milpath.sagemaker.jobs.model_archive import CARD_FILE, write_model_archive
from milpath.sagemaker.registry.approved_package import etag_of
from milpath.sagemaker.registry.package_card import card_content
from milpath.sagemaker.registry.package_request import (
    RegisterConfig,
    Registered,
    group_request,
    package_request,
    require_settings,
)
from milpath.sagemaker.registry.registered_files import FoundFiles, find_files
from milpath.sagemaker.scoring.score_roads import write_object

METRICS_FILE, PROVENANCE_FILE = "metrics.json", "provenance.json"
_ARCHIVE = "model.tar.gz"


def register_run(config: DictConfig) -> dict[str, Any]:
    """Upload what is not in S3 yet, and create a version of the model package group.

    Args:
        config: The composed root of the `sagemaker_register` command.

    Returns:
        The request that was sent, or would be sent without `dry_run`.

    Raises:
        FileNotFoundError: If the run or the archive lacks a file.
        ValueError: If archive and run are not of one training, or the account is not ready.
    """
    settings = cast(RegisterConfig, OmegaConf.to_object(config))
    require_settings(settings)
    account = None
    if not settings.dry_run:
        account = open_account(settings.region)
        require_bucket(account, str(settings.bucket))
    elif settings.region is None:
        raise ValueError("dry_run does not contact AWS, so it needs region=eu-central-1 (or yours)")
    region = settings.region if account is None else account.region_name
    for key in ("run", "archive"):
        if account is None and str(getattr(settings, key)).startswith("s3://"):
            raise ValueError(f"dry_run does not contact AWS, so {key}={getattr(settings, key)} must be on this machine")
    found = find_files(settings.run, [METRICS_FILE, IDENTITY_FILE, PROVENANCE_FILE], account)
    with tempfile.TemporaryDirectory() as folder:
        place = settings.archive or _made_archive(settings, Path(folder))
        packed = find_files(place, [CARD_FILE, IDENTITY_FILE], account)
        _require_same_run(found, packed)
        image = chosen_image(
            settings.image, "inference", region=str(region), version=settings.image_version,
            python=settings.image_python, instance_type=settings.instance_type,
        )  # fmt: skip
        registered = _registered(settings, found, packed, account)
    request = package_request(settings, registered, image)
    if account is None:
        sys.stdout.write(json.dumps(request, indent=2, ensure_ascii=False) + "\n")
        return request
    client = account.client("sagemaker")
    _ensure_group(client, settings)
    with explained(f"register a version of {settings.group}"):
        arn = client.create_model_package(**request)["ModelPackageArn"]
    approve = f"aws sagemaker update-model-package --model-package-arn {arn} --model-approval-status Approved"
    sys.stdout.write(
        f"registered {arn}: {settings.approval}\n"
        f"archive: {registered.archive}\n"
        + (f"approve: {approve}\n" if settings.approval != "Approved" else "")
        + f"deploy:  python -m milpath.sagemaker.deploy model_package={arn}\n"
    )
    return request


def _made_archive(settings: RegisterConfig, folder: Path) -> str:
    """Return the archive of the best checkpoint of a run on this machine."""
    checkpoint = Path(settings.run) / "checkpoints" / "best.ckpt"
    if not checkpoint.is_file():
        raise FileNotFoundError(
            f"{checkpoint} does not exist, from which the archive is made; give archive={_ARCHIVE}, here or in S3"
        )
    write_model_archive(checkpoint, folder / _ARCHIVE, parts=list(settings.parts))
    return str(folder / _ARCHIVE)


def _require_same_run(found: FoundFiles, packed: FoundFiles) -> None:
    """Refuse metrics of one training beside the network of another."""
    if IDENTITY_FILE not in packed.content:
        raise ValueError(
            f"{packed.place} does not say of which training its network is, so that no metrics can be registered with it; "
            "make it again: python -m milpath.sagemaker.package checkpoint=RUN/checkpoints/best.ckpt"
        )
    theirs, ours = (files.values(IDENTITY_FILE).get("digest") for files in (packed, found))
    if theirs != ours:
        raise ValueError(
            f"{packed.place} and {found.place} are of different trainings (their identities are {str(theirs)[:12]} and "
            f"{str(ours)[:12]}): give the archive and the run of one training"
        )


def _registered(settings: RegisterConfig, found: FoundFiles, packed: FoundFiles, account: Any) -> Registered:
    """Return what is registered, with archive and metrics in S3 unless this is a dry run."""
    identity, metrics, card = found.values(IDENTITY_FILE), found.values(METRICS_FILE), packed.values(CARD_FILE)
    provenance = found.values(PROVENANCE_FILE)
    digest = packed.sha256 or str(identity["digest"])
    folder = f"s3://{settings.bucket}/{settings.prefix.strip('/')}/registry/{settings.group}/{digest[:16]}"
    archive = packed.place if packed.place.startswith("s3://") else f"{folder}/{_ARCHIVE}"
    try:
        creator = f"milpath {provenance.get('packages', {}).get('milpath', 'of an unknown version')}"
        content = card_content(card, metrics, identity, creator=creator, archive=archive, run=settings.run)
        code = provenance.get("code") or {}
        commit = code.get("commit") and f"{code['commit']}{' with changes' if code.get('dirty') else ''}"
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the records of {found.place} or {packed.place} lack something or were changed ({reason_of(error)}); give a "
            "run and an archive as milpath wrote them"
        ) from None
    etag = None
    if account is not None:
        if archive != packed.place:
            upload(account, Path(packed.place), archive)
        write_object(account, f"{folder}/{METRICS_FILE}", found.content[METRICS_FILE])
        etag = None if archive.endswith("/") else etag_of(account, archive)
    return Registered(
        archive=archive,
        archive_sha256=packed.sha256,
        archive_etag=etag,
        metrics=metrics,
        metrics_address=f"{folder}/{METRICS_FILE}",
        metrics_sha256=sha256_of_text(found.content[METRICS_FILE].decode()),
        identity=identity,
        commit=commit,
        creator=creator,
        task=str(card["task"]),
        card=content,
    )


def _ensure_group(client: Any, settings: RegisterConfig) -> None:
    """Create the group unless there is one."""
    from botocore.exceptions import ClientError

    with explained(f"find the group {settings.group}"):
        try:
            client.describe_model_package_group(ModelPackageGroupName=settings.group)
            return
        except ClientError as error:
            if "does not exist" not in error.response["Error"]["Message"]:
                raise
    with explained(f"create the group {settings.group}"):
        client.create_model_package_group(**group_request(settings))
    sys.stdout.write(f"created the model package group {settings.group}\n")
