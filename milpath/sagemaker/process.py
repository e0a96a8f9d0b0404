"""Cut or encode slides in S3 on SageMaker: `python -m milpath.sagemaker.process slides=s3://... output=s3://...`.

Run the same command again to continue: slides that are finished are not done twice.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from milpath.config.command import command
from milpath.config.command_line import override
from milpath.records.error_text import counted
from milpath.sagemaker.jobs.aws_account import explained, image_address, open_account, require_bucket, require_role
from milpath.sagemaker.jobs.job_configs import PROCESS, settings_of
from milpath.sagemaker.jobs.job_settings import require_s3
from milpath.sagemaker.processing.processing_job import SlideJobs, default_name
from milpath.sagemaker.processing.slide_listing import (
    S3Slide,
    WorkState,
    list_objects,
    list_slides,
    reasons_of,
    state_of_parts,
)
from milpath.sagemaker.processing.slide_rate import describe_cost
from milpath.sagemaker.processing.wait_for_job import wait_for_job
from milpath.slides.tiling_options import OPTION_NAMES, TileOptions
from milpath.tiling.slide_plan import plan_slides, require_complete

COMMANDS = ("tile", "extract")
_OWN_OPTIONS = ("slides", "output", "shard", "overwrite", "masks", "hydra")


def run(config: DictConfig) -> list[dict[str, Any]]:
    """Check the options, upload what a job needs and submit it; with `wait`, until the store is complete.

    Args:
        config: The composed root of the `sagemaker_process` command.

    Returns:
        The requests that were sent, or would be sent without `dry_run`.

    Raises:
        ValueError: If the options, the slides or the account are not ready; the message says what to type.
    """
    jobs, on_error = _jobs(config)
    cost = describe_cost(config.slides_per_second, config.price_per_hour, jobs.command)
    many = jobs.settings.instance_count
    if config.dry_run:
        request = jobs.request("cut" if many > 1 else "whole", many, earlier=False)
        sys.stdout.write(json.dumps(request, indent=2) + "\n")
        sys.stderr.write(f"{cost}\n")
        return [request]
    account = open_account(jobs.settings.region)
    require_bucket(account, str(jobs.settings.bucket))
    sent: list[dict[str, Any]] = []
    before: WorkState | None = None
    while "store.json" not in list_objects(account, jobs.output):
        slides = list_slides(account, jobs.slides)
        parts = list_objects(account, f"{jobs.work}/parts")
        state = state_of_parts(slides, parts)
        if before is not None and state == before:
            raise ValueError(f"the last job finished no slide of {len(slides):,}; see its log in CloudWatch")
        _require_usable(jobs, account, slides, state, on_error)
        num_instances = max(1, min(many, len(state.to_do)))
        jobs.require_disk(state.to_do, num_instances)
        phase = "cut" if num_instances > 1 else "whole"
        request = jobs.request(phase, num_instances, earlier=bool(parts), slides=bool(state.to_do))
        jobs.prepare(account, slides, state)
        with explained("submit the job"):
            account.client("sagemaker").create_processing_job(**request)
        sent.append(request)
        sys.stdout.write(_report(jobs, request, slides, state, cost))
        if not config.wait:
            return sent
        wait_for_job(account, request)
        before = state if phase == "cut" else None
        if phase == "whole" and "store.json" not in list_objects(account, jobs.output):
            raise ValueError(f"{request['ProcessingJobName']} is completed, but {jobs.output} has no store.json")
    sys.stdout.write(f"the store is complete: {jobs.output}\n")
    return sent


def _jobs(config: DictConfig) -> tuple[SlideJobs, str]:
    """Return the jobs of a configuration and their `on_error`."""
    if config.command not in COMMANDS:
        raise ValueError(f"command={config.command} must be one of {', '.join(COMMANDS)}")
    require_s3("slides", config.slides)
    require_s3("output", config.output)
    settings = settings_of(config)
    role = require_role(settings.role)
    files = {key: str(value) for key, value in _mapping(config, "files").items()}
    for key, value in files.items():
        if not value.startswith("s3://") and not Path(value).is_file():
            raise FileNotFoundError(f"files.{key}={value} does not exist; give a local file, or an object in S3")
    options = _mapping(config, "options")
    if own := [key for key in (*options, *files) if key in _OWN_OPTIONS]:
        raise ValueError(f"options: {own[0]} is set by the job itself, or not possible in one; remove it")
    words = [override(key, value) for key, value in options.items()]
    on_error = _checked(config.command, [*words, *(override(key, value) for key, value in files.items())])
    region = settings.region if config.dry_run else open_account(settings.region).region_name
    if region is None:
        raise ValueError("dry_run does not contact AWS, so it needs sagemaker.region=eu-central-1 (or yours)")
    image = settings.image or image_address(
        "training",
        region=region,
        version=settings.image_version,
        python=settings.image_python,
        instance_type=settings.instance_type,
    )
    name = config.name or default_name(config.command, config.output)
    output = config.output.rstrip("/")
    return SlideJobs(
        settings, config.command, words, files, config.slides.rstrip("/"), output, name, role, image
    ), on_error


def _mapping(config: DictConfig, key: str) -> dict[str, Any]:
    """Return options that were given as `{name: value}`."""
    found = config[key]
    if found is not None and not isinstance(found, DictConfig):
        raise ValueError(f"{key}={found} must be a mapping, '{key}={{NAME: VALUE}}'")
    return {} if found is None else cast(dict[str, Any], OmegaConf.to_container(found, resolve=True))


def _checked(name: str, words: list[str]) -> str:
    """Compose the command as the job will, to catch mistyped options before submission; return `on_error`."""
    try:
        found = compose(name, [*words, "slides=slides", "output=output"])
        options = {key: found[key] for key in OPTION_NAMES}
    except HydraException as error:
        raise ValueError(f"options: {str(error).splitlines()[0]}") from None
    if name == "tile":
        TileOptions(**options)
    return str(found.on_error)


def _require_usable(jobs: SlideJobs, account: Any, slides: list[S3Slide], state: WorkState, on_error: str) -> None:
    """Refuse slides that do not fit their table, and work that only failed slides are left of."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "slides"
        for slide in slides:
            (root / slide.path).parent.mkdir(parents=True, exist_ok=True)
            (root / slide.path).touch()
        chosen = compose(jobs.command, [*jobs.words, "slides=slides", "output=output"])
        labels, resolutions = (jobs.files.get(key) for key in ("labels", "resolutions"))
        local = [Path(path) if path and not path.startswith("s3://") else None for path in (labels, resolutions)]
        plan = plan_slides(
            root, local[0], None, Path(folder) / "output", id_column=chosen.id_column,
            label_column=chosen.label_column, resolutions=local[1],
        )  # fmt: skip
        if on_error == "fail":
            require_complete(plan)
    if state.to_do or not state.failed or on_error == "skip":
        return
    bucket, key = jobs.work.removeprefix("s3://").split("/", 1)
    client = account.client("s3")
    with explained("read why slides failed"):
        reasons = reasons_of(
            state, lambda name: client.get_object(Bucket=bucket, Key=f"{key}/parts/{name}")["Body"].read()
        )
    listed = "".join(f"\n  {name}: {reason}" for name, reason in sorted(reasons.items())[1:])
    sys.stderr.write(f"also failed:{listed}\n" if listed else "")
    name, reason = min(reasons.items())
    raise ValueError(
        f"{counted(len(reasons), 'slide')} of {len(slides):,} failed (first: {name!r}: {reason}); upload them again and run "
        "the same command, or add on_error: skip to options to leave them out"
    )


def _report(jobs: SlideJobs, request: dict[str, Any], slides: list[S3Slide], state: WorkState, cost: str) -> str:
    """Return what was submitted and what to do next."""
    name, cluster = request["ProcessingJobName"], request["ProcessingResources"]["ClusterConfig"]
    cut = request["Environment"]["MILPATH_PHASE"] == "cut"
    then = "run the same command again: it continues, and merges the store once all slides are finished"
    return (
        f"submitted {name}: {cluster['InstanceCount']} x {cluster['InstanceType']}, {len(state.to_do):,} of "
        f"{counted(len(slides), 'slide')} to do, {len(state.finished):,} finished, {len(state.failed):,} failed\n"
        f"{cost}\n"
        + (f"then:   {then}\n" if cut else f"store:  {jobs.output}\n")
        + f"follow: aws logs tail /aws/sagemaker/ProcessingJobs --follow --log-stream-name-prefix {name}\n"
        f"stop:   aws sagemaker stop-processing-job --processing-job-name {name}\n"
    )


@command(PROCESS)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
