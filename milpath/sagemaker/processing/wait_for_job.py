"""Waiting for the end of a job."""

from contextlib import suppress
from typing import Any

from milpath.sagemaker.jobs.aws_account import explained

_SECONDS = 30
_DAY = 86_400
# Transform jobs have no time limit of their own; the service ends them after five days.
_LONGEST_TRANSFORM = 5 * _DAY


def wait_for_job(account: Any, request: dict[str, Any]) -> None:
    """Wait until a Processing or Transform job is completed.

    Args:
        account: A boto3 session.
        request: The request of the job.

    Raises:
        ValueError: If it failed or was stopped, with the reason that its program wrote.
    """
    from botocore.exceptions import WaiterError

    client = account.client("sagemaker")
    kind = "processing" if "ProcessingJobName" in request else "transform"
    key = f"{kind.title()}JobName"
    limit = request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _LONGEST_TRANSFORM)
    # A job may wait for capacity before its time counts. Its state is read below, whatever the waiter says.
    with suppress(WaiterError):
        client.get_waiter(f"{kind}_job_completed_or_stopped").wait(
            **{key: request[key]},
            WaiterConfig={"Delay": _SECONDS, "MaxAttempts": (limit + _DAY) // _SECONDS},
        )
    with explained(f"describe {request[key]}"):
        found = getattr(client, f"describe_{kind}_job")(**{key: request[key]})
    status = found[f"{kind.title()}JobStatus"]
    # A batch in which some requests failed is called failed, and keeps the answers of all others.
    if status == "Completed" or (kind == "transform" and status == "Failed"):
        return
    reason = found.get("ExitMessage") or found.get("FailureReason") or "no reason was given"
    raise ValueError(
        f"{request[key]} is {status}: {' '.join(reason.split())}; finished slides are kept, run the same command to continue"
    )
