"""Cut or encode slides in S3 on SageMaker: `python -m milpath.sagemaker.process slides=s3://... output=s3://...`.

Run the same command again to continue: slides that are finished are not done twice.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig

from milpath.config.command import command
from milpath.records.error_text import counted
from milpath.sagemaker.jobs.aws_account import explained, open_account, require_bucket
from milpath.sagemaker.jobs.job_configs import PROCESS
from milpath.sagemaker.processing.processing_job import SlideJobs
from milpath.sagemaker.processing.slide_listing import (
    S3Slide,
    WorkState,
    list_objects,
    list_slides,
    reasons_of,
    state_of_parts,
)
from milpath.sagemaker.processing.slide_rate import describe_cost
from milpath.sagemaker.processing.submission import jobs_of
from milpath.sagemaker.processing.wait_for_job import wait_for_job

COMMANDS = ("tile", "extract")


def run(config: DictConfig) -> list[dict[str, Any]]:
    """Check the options, upload what a job needs and submit it; with `wait`, until the store is complete.

    Args:
        config: The composed root of the `sagemaker_process` command.

    Returns:
        The requests that were sent, or would be sent without `dry_run`.

    Raises:
        ValueError: If the options, the slides or the account are not ready; the message says what to type.
    """
    if config.command not in COMMANDS:
        raise ValueError(f"command={config.command} must be one of {', '.join(COMMANDS)}")
    jobs, on_error = jobs_of(config, config.command)
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
        phase = "cut" if num_instances > 1 else "whole"
        merged = sum(int(item["Size"]) for item in parts.values()) if phase == "whole" else 0
        jobs.require_disk(state.to_do, num_instances, merged)
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


def _require_usable(jobs: SlideJobs, account: Any, slides: list[S3Slide], state: WorkState, on_error: str) -> None:
    """Refuse slides that do not fit their table, and work that only failed slides are left of."""
    # Imported here so that --help and mistyped options do not wait for pandas.
    from milpath.tiling.slide_plan import plan_slides, require_complete

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
    instances = f"{cluster['InstanceCount']} x {' or '.join(jobs.settings.instance_types)}"
    return (
        f"submitted {name}: {instances}, {len(state.to_do):,} of "
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
