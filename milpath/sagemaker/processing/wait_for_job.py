"""Waiting for the end of a job."""

from typing import Any

from milpath.sagemaker.jobs.aws_account import explained

_SECONDS = 30


def wait_for_job(account: Any, request: dict[str, Any]) -> None:
    """Wait until a Processing job is completed.

    Args:
        account: A boto3 session.
        request: The request of the job.

    Raises:
        ValueError: If it failed or was stopped, with the reason that its program wrote.
    """
    from botocore.exceptions import WaiterError

    client, name = account.client("sagemaker"), request["ProcessingJobName"]
    # A job may wait for capacity before its time counts.
    seconds = request["StoppingCondition"]["MaxRuntimeInSeconds"] + 86_400
    try:
        client.get_waiter("processing_job_completed_or_stopped").wait(
            ProcessingJobName=name, WaiterConfig={"Delay": _SECONDS, "MaxAttempts": seconds // _SECONDS}
        )
    except WaiterError:
        pass  # its state is read below
    with explained(f"describe {name}"):
        found = client.describe_processing_job(ProcessingJobName=name)
    status = found["ProcessingJobStatus"]
    if status != "Completed":
        reason = found.get("ExitMessage") or found.get("FailureReason") or "no reason was given"
        raise ValueError(
            f"{name} is {status}: {' '.join(reason.split())}; finished slides are kept, run the same command to continue"
        )
