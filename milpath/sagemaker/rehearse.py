"""Run a training job on this machine before it is paid for: `python -m milpath.sagemaker.rehearse rehearse.training=DIR`.

All overrides of `milpath.sagemaker.launch` work. AWS is not contacted.
"""

import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from milpath.config.command import command
from milpath.sagemaker.jobs.hyperparameters import PLATFORM
from milpath.sagemaker.jobs.job_configs import REHEARSE, settings_of
from milpath.sagemaker.jobs.prepare_job import write_job_source
from milpath.sagemaker.jobs.training_request import PROGRAM, training_request
from milpath.sagemaker.rehearsal.ml_folder import (
    environment,
    link_channels,
    make_folders,
    without_toolkit,
    write_config,
)

JOB_NAME = "rehearsal"


def run(config: DictConfig) -> Path:
    """Lay out a folder like /opt/ml, and start the job in it as its container does.

    Args:
        config: The composed root of the `sagemaker_rehearse` command.

    Returns:
        The folder.

    Raises:
        ValueError: If the training cannot be composed, or the job fails; the message is its FailureReason.
        FileNotFoundError: If the data or the toolkit do not exist.
    """
    words = cast(dict[str, Any], OmegaConf.to_container(config.rehearse, resolve=True))
    base = Path(words["folder"]).resolve() / "ml"
    toolkit = None if words["toolkit"] is None else Path(words["toolkit"]).resolve()
    if toolkit is not None and not (toolkit / "bin/train").is_file():
        raise FileNotFoundError(
            f"rehearse.toolkit={toolkit} has no bin/train; make the environment with "
            f"scripts/sagemaker/check_toolkit.sh {toolkit}"
        )
    if words["training"] is None:
        raise ValueError("rehearse.training must be given: the local folder of the data of the job")
    channels = {name: Path(words[name]) for name in ("training", "testing") if words[name] is not None}
    settings = settings_of(config)
    settings = replace(
        settings,
        training=settings.training or "s3://rehearsal/training",
        processes_per_instance=settings.processes_per_instance or words["processes"],
    )
    make_folders(base, keep_checkpoints=words["resume"])
    source = base / "source.tar.gz"
    write_job_source(source, settings)
    request = training_request(
        settings, region="rehearsal", role="rehearsal", image="rehearsal", source=str(source), run_id=JOB_NAME
    )
    write_config(base, request["HyperParameters"], settings.instance_type)
    link_channels(base, channels)
    started = time.monotonic()
    _start(base, toolkit, request, list(channels))
    _report(base, time.monotonic() - started, toolkit)
    return base


def _start(base: Path, toolkit: Path | None, request: dict[str, Any], channels: list[str]) -> None:
    """Start the job and wait for its end; its log is that of this command."""
    if toolkit is not None:
        command_line, variables = [str(toolkit / "bin/train")], environment(base, toolkit / "bin", JOB_NAME)
        folder = base
    else:
        folder = base / "code"
        with tarfile.open(base / "source.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        own = {name: value for name, value in request["HyperParameters"].items() if not name.startswith(PLATFORM)}
        arguments = [word for name, value in own.items() for word in (f"--{name}", value)]
        command_line = [sys.executable, *_launcher(request), PROGRAM, *arguments]
        variables = environment(base, Path(sys.executable).parent, JOB_NAME, **without_toolkit(base, channels))
    status = subprocess.run(command_line, env=variables, cwd=folder, check=False).returncode  # noqa: S603
    if status != 0:
        failure = base / "output/failure"
        reason = failure.read_text(encoding="utf-8") if failure.is_file() else f"exit status {status}, see its log"
        raise ValueError(f"the job failed as it would on SageMaker: {' '.join(reason.split())}")


def _launcher(request: dict[str, Any]) -> list[str]:
    """Return how Python starts several processes, as the toolkit does."""
    processes = int(request["HyperParameters"].get("sagemaker_mpi_num_of_processes_per_host", 1))
    if processes == 1:
        return []
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]


def _report(base: Path, seconds: float, toolkit: Path | None) -> None:
    """Say what the job left, and what was not rehearsed."""
    lines = [f"the job took {seconds:.0f} s on this machine; what SageMaker would copy to S3 is in {base}"]
    for name, content in (("model", "model.tar.gz"), ("output/data", "output.tar.gz"), ("checkpoints", "checkpoints")):
        sizes = [path.stat().st_size for path in (base / name).rglob("*") if path.is_file()]
        lines.append(f"  {content:<14} {len(sizes):>4} files, {sum(sizes) / 1e6:,.1f} MB")
    if toolkit is None:
        lines.append(
            "not rehearsed: the start by SageMaker's toolkit, which installs the requirements; "
            "add rehearse.toolkit=FOLDER of an environment that scripts/sagemaker/check_toolkit.sh makes"
        )
    lines.append("not rehearsed either: permissions, the image, the instance, and copying to and from S3")
    sys.stdout.write("".join(f"{line}\n" for line in lines))


@command(REHEARSE)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
