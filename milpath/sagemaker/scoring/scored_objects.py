"""Slides or bags in S3, scored by the jobs of one of two ways, until the tables of all are collected."""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from milpath.models.checkpoint import load_card
from milpath.records.error_text import counted
from milpath.sagemaker.jobs.aws_account import explained, open_account, require_bucket, split_address, upload
from milpath.sagemaker.jobs.endpoint_request import require_one_checkpoint
from milpath.sagemaker.processing.processing_job import SlideJobs
from milpath.sagemaker.processing.slide_listing import S3Slide, WorkState, list_objects, list_slides
from milpath.sagemaker.processing.slide_rate import describe_cost
from milpath.sagemaker.processing.submission import jobs_of
from milpath.sagemaker.processing.wait_for_job import wait_for_job
from milpath.sagemaker.scoring.score_roads import KINDS, TABLES, ProcessingRoad, Road, TransformRoad, download, kind_of
from milpath.sagemaker.scoring.transform_request import CONTENT_TYPES
from milpath.tiling.slide_output import write_failures

_BATCH_KINDS = ("npy", "zip")
_REFUSED = {
    "slides_table": "patients have slides on several instances",
    "aggregate": "patients have slides on several instances",
}


def score_objects(config: DictConfig) -> int:
    """Submit a job for what is not scored yet, or collect the results once everything is.

    Args:
        config: The composed root of the `sagemaker_transform` command.

    Returns:
        Number of slides without a prediction, which `failures.csv` in the output names; 0 while jobs run.

    Raises:
        ValueError: If the options, the objects or the account are not ready, or nothing could be predicted.
    """
    if config.inputs is not None and config.inputs not in KINDS:
        raise ValueError(f"inputs={config.inputs} must be one of {', '.join(KINDS)}, or null")
    if config.dry_run and config.inputs is None:
        raise ValueError(f"dry_run does not contact AWS, so it needs inputs=, one of {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = _local_checkpoint(config, folder)
        load_card(checkpoint)
        kind = config.inputs or kind_of(config.slides, list_objects(_account(config), config.slides))
        road, jobs = _road(config, kind, checkpoint)
        (sys.stderr if config.dry_run else sys.stdout).write(_why(kind))
        if config.dry_run:
            sys.stdout.write(json.dumps(road.requests(WorkState((), {}, ())), indent=2) + "\n")
            sys.stderr.write(describe_cost(config.slides_per_second, config.price_per_hour, "predict") + "\n")
            return 0
        return _advance(config, road, jobs, kind, folder)


def _advance(config: DictConfig, road: Road, jobs: SlideJobs, kind: str, folder: Path) -> int:
    """Submit, wait if wanted, and collect."""
    account = _account(config)
    require_bucket(account, str(jobs.settings.bucket))
    before: WorkState | None = None
    while True:
        if "predictions.csv" in list_objects(account, jobs.output):
            sys.stdout.write(f"the prediction is complete: {jobs.output}\n")
            return 0
        slides = list_slides(account, jobs.slides, KINDS[kind])
        _require_unique(slides)
        state, reasons = road.state(account, slides)
        if not state.to_do:
            return _collect(account, road, jobs, slides, reasons, folder)
        if state == before:
            if kind not in _BATCH_KINDS:
                raise ValueError(
                    f"the last job scored none of the {len(state.to_do):,} slides that are left; see its log"
                )
            silent = "the container gave no answer; see the log of the job"
            reasons = {**reasons, **dict.fromkeys((slide.name for slide in state.to_do), silent)}
            return _collect(account, road, jobs, slides, reasons, folder)
        requests = road.requests(state)
        road.prepare(account, slides, state)
        _submit(account, requests)
        *_, request = requests.values()
        sys.stdout.write(_report(config, request, slides, state))
        if not config.wait:
            return 0
        wait_for_job(account, request)
        before = state


def _submit(account: Any, requests: dict[str, dict[str, Any]]) -> None:
    """Create the job, and its model unless an earlier job did."""
    client = account.client("sagemaker")
    for call, body in requests.items():
        if call == "create_model" and body["ModelName"] in _models(client, body["ModelName"]):
            continue
        with explained("submit the job"):
            getattr(client, call)(**body)


def _models(client: Any, name: str) -> list[str]:
    with explained("list models"):
        return [item["ModelName"] for item in client.list_models(NameContains=name)["Models"]]


def _collect(account: Any, road: Road, jobs: SlideJobs, slides: list[S3Slide], reasons: Any, folder: Path) -> int:
    """Write the tables of all slides, upload them, and copy the files of each slide beside them."""
    if len(reasons) == len(slides):
        raise ValueError(f"none of {counted(len(slides), 'slide')} could be predicted; first: {min(reasons.items())}")
    others = road.collect(account, slides, folder)
    client = account.client("s3")
    bucket, prefix = split_address(jobs.output)
    for address, name in others.items():
        source, key = split_address(address)
        with explained(f"copy {address}"):
            client.copy({"Bucket": source, "Key": key}, bucket, f"{prefix}/{name}")
    write_failures(dict(reasons), folder / "failures.csv")
    # predictions.csv comes last: it marks the prediction as complete.
    for table in ("failures.csv", *TABLES):
        upload(account, folder / table, f"{jobs.output}/{table}")
    if isinstance(road, TransformRoad) and road.model in _models(account.client("sagemaker"), road.model):
        with explained(f"delete the model {road.model}"):
            account.client("sagemaker").delete_model(ModelName=road.model)
    sys.stdout.write(f"{counted(len(slides) - len(reasons), 'slide')} of {len(slides):,} predicted: {jobs.output}\n")
    if reasons:
        name, reason = min(reasons.items())
        line = f"{counted(len(reasons), 'slide')} failed, see {jobs.output}/failures.csv (first: {name!r}: {reason})"
        sys.stderr.write(f"{line}\n")
    return len(reasons)


def _road(config: DictConfig, kind: str, checkpoint: Path) -> tuple[Road, SlideJobs]:
    """Return the way on which objects of a kind are scored."""
    refused = {**_REFUSED, "checkpoint": "it is an option of this command"}
    jobs, _ = jobs_of(config, "predict", {"checkpoint": config.checkpoint}, refused, batch=kind in _BATCH_KINDS)
    if kind not in _BATCH_KINDS:
        if config.serving_image is not None:
            raise ValueError(
                f"serving_image={config.serving_image} is for npy and zip; inputs are {kind}, which run in sagemaker.image"
            )
        return ProcessingRoad(jobs), jobs
    if jobs.words or len(jobs.files) > 1:
        raise ValueError("options and files are for slides and features; the serving container has none: remove them")
    (suffix,) = [suffix for suffix in KINDS[kind] if suffix in CONTENT_TYPES]
    jobs = replace(jobs, command="transform")
    return TransformRoad(jobs, checkpoint, suffix), jobs


def _why(kind: str) -> str:
    """Return which of the two ways is taken, and why."""
    if kind in _BATCH_KINDS:
        return (
            f"inputs are {kind}: Batch Transform with the serving container, one request per object of at most 100 MB\n"
        )
    return f"inputs are {kind}: Processing jobs that run milpath predict, since they may exceed the 100 MB of a batch\n"


def _local_checkpoint(config: DictConfig, folder: Path) -> Path:
    """Return the checkpoint as a local file."""
    require_one_checkpoint(config.checkpoint)
    if not config.checkpoint.startswith("s3://"):
        return Path(config.checkpoint)
    if config.dry_run:
        raise ValueError("dry_run does not contact AWS, so it needs a local checkpoint")
    download(_account(config), config.checkpoint, folder / "downloaded.ckpt")
    return folder / "downloaded.ckpt"


def _account(config: DictConfig) -> Any:
    return open_account(config.sagemaker.region)


def _require_unique(slides: list[S3Slide]) -> None:
    """Refuse two objects of one name: their rows could not be told apart."""
    names = [slide.name for slide in slides]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two objects have the name {twice!r}; a prediction has one row per name: rename one")


def _report(config: DictConfig, request: dict[str, Any], slides: list[S3Slide], state: WorkState) -> str:
    """Return what was submitted and what to do next."""
    batch = "TransformJobName" in request
    kind, name = ("Transform", request["TransformJobName"]) if batch else ("Processing", request["ProcessingJobName"])
    done = f"{len(state.to_do):,} of {counted(len(slides), 'object')} to do, {len(state.finished):,} scored"
    return (
        f"submitted {name}: {done}, {len(state.failed):,} failed\n"
        f"{describe_cost(config.slides_per_second, config.price_per_hour, 'predict')}\n"
        "then:   run the same command again: it continues, and collects the tables once everything is scored\n"
        f"follow: aws logs tail /aws/sagemaker/{kind}Jobs --follow --log-stream-name-prefix {name}\n"
        f"stop:   aws sagemaker stop-{kind.lower()}-job --{kind.lower()}-job-name {name}\n"
    )
