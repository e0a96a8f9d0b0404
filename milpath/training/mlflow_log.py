"""MLflow logger: a database, a server or SageMaker's managed MLflow, which also gets files of the finished run."""

import importlib.util
import logging
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, MLFlowLogger

from milpath.models.card import plain_card
from milpath.models.checkpoint import load_card
from milpath.records.atomic_files import write_json

# What is sent of a run, and its files. The first three hold settings and numbers of all bags together.
OF_THE_RUN = {"config": ("config.yaml",), "metrics": ("metrics.json",), "card": ("card.json",)}
OF_EACH_SLIDE = {"report": ("report.html", "report_files"), "predictions": ("predictions.csv",)}
_ARN = re.compile(r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:mlflow-(app|tracking-server)/[\w.-]+")
_HERE = ("", "file", "sqlite")


class MLflowLog(MLFlowLogger):
    """Lightning's MLFlowLogger for any place of MLflow, which sends files of a run once it is finished.

    Args:
        experiment_name: Name of the experiment; made if there is none.
        run_name: Name of the run.
        tracking_uri: `sqlite:///runs/mlflow.db`, `http://server:5000`, or the ARN of a SageMaker MLflow app or tracking
            server.
        artifacts: Which of config, metrics, card, report and predictions are sent; `None` sends all of them if MLflow is
            on this machine, and to a server only config, metrics and card, which have no row or picture of a slide.
        artifact_location: Where a new experiment keeps its files; `None` is the folder `mlflow_artifacts` beside a
            database, otherwise as the server decides.
        **options: Further arguments of Lightning's logger.

    Raises:
        ValueError: If an entry of `artifacts` is unknown, the ARN is none of MLflow, or a package is missing.
    """

    def __init__(
        self,
        experiment_name: str = "milpath",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        artifacts: Sequence[str] | None = None,
        artifact_location: str | None = None,
        **options: Any,
    ) -> None:
        known = OF_THE_RUN | OF_EACH_SLIDE
        if unknown := [name for name in artifacts or () if name not in known]:
            raise ValueError(f"logger.mlflow.artifacts: {unknown[0]} is not one of {', '.join(known)}")
        place = str(tracking_uri)
        _require_packages(place)
        if not place.startswith("arn:"):
            # The plugin of SageMaker, if it is installed, fails at every address that is no ARN, and MLflow warns each time.
            logging.getLogger("mlflow.tracking.request_header.registry").setLevel(logging.ERROR)
        if artifact_location is None and place.startswith("sqlite:///"):
            # MLflow would make a folder mlruns in the working folder.
            folder = Path(place.removeprefix("sqlite:///")).resolve().parent
            artifact_location = (folder / "mlflow_artifacts").as_uri()
        super().__init__(experiment_name, run_name, tracking_uri, artifact_location=artifact_location, **options)
        self.place = place
        self.artifacts = artifacts

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The client of MLflow; on first access, experiment and run are made.

        Raises:
            ConnectionError: If MLflow does not answer, or refuses.
        """
        with _answering(self.place):
            return super().experiment

    def send_run(self, run_dir: Path, metrics: Mapping[str, Mapping[str, float | None]]) -> str:
        """Send the metrics of the best checkpoint, as `best/test/auroc`, and files of the run.

        Args:
            run_dir: The folder of the run, which is complete.
            metrics: Split to metric to value, as in `metrics.json`; `None` is not sent.

        Returns:
            One line that says what was sent, and what was not although it was written.

        Raises:
            ConnectionError: If MLflow does not answer, or refuses.
        """
        here = is_here(self.place)
        wanted = self.artifacts if self.artifacts is not None else [*OF_THE_RUN, *(OF_EACH_SLIDE if here else ())]
        best = {
            f"best/{split}/{name}": value
            for split, values in metrics.items()
            for name, value in values.items()
            if value is not None
        }
        sent: list[str] = []
        self.log_metrics(best)
        with tempfile.TemporaryDirectory() as name, _answering(self.place):
            checkpoint = run_dir / "checkpoints" / "best.ckpt"
            if "card" in wanted and checkpoint.is_file():
                write_json(Path(name) / "card.json", plain_card(load_card(checkpoint)))
            for key in wanted:
                for file in (OF_THE_RUN | OF_EACH_SLIDE)[key]:
                    path = (Path(name) if key == "card" else run_dir) / file
                    if path.is_dir():
                        self.experiment.log_artifacts(self.run_id, str(path), file)
                    elif path.is_file():
                        self.experiment.log_artifact(self.run_id, str(path))
                        sent.append(file)
        line = f"MLflow: {', '.join(sent) or 'no file'} of run {self.run_id} sent to {self.place}"
        kept = [key for key in OF_EACH_SLIDE if key not in wanted and (run_dir / OF_EACH_SLIDE[key][0]).is_file()]
        if self.artifacts is None and kept:
            names = " and ".join(OF_EACH_SLIDE[key][0] for key in kept)
            more = ",".join([*OF_THE_RUN, *kept])
            line += f"; {names} name slides and stay here, unless you add logger.mlflow.artifacts=[{more}]"
        return line


def is_here(place: str) -> bool:
    """Return whether a place of MLflow is a database or a folder of this machine.

    Args:
        place: A tracking URI.

    Example:
        >>> is_here("sqlite:///runs/mlflow.db"), is_here("http://127.0.0.1:5000")
        (True, False)
    """
    return urlsplit(place).scheme in _HERE


def log_settings(loggers: Sequence[Logger], settings: Mapping[str, Any]) -> None:
    """Log the settings of a run as the parameters of MLflow, before the training.

    Args:
        loggers: All loggers of the Trainer.
        settings: Dotted key to value: what determines the network. Paths are not logged.

    Raises:
        ConnectionError: If MLflow does not answer, or refuses.
    """
    for logger in loggers:
        if isinstance(logger, MLflowLog):
            with _answering(logger.place):
                logger.log_hyperparams(
                    {name: value for name, value in settings.items() if not name.endswith(("path", "_dir"))}
                )


def send_runs(loggers: Sequence[Logger], run_dir: Path, metrics: Mapping[str, Mapping[str, float | None]]) -> None:
    """Send a finished run to the MLflow loggers of a Trainer, and say what was sent.

    A server that does not answer now costs nobody the run: the folder has everything.

    Args:
        loggers: All loggers of the Trainer.
        run_dir: The folder of the run.
        metrics: Split to metric to value.
    """
    for logger in loggers:
        if isinstance(logger, MLflowLog):
            try:
                sys.stdout.write(f"{logger.send_run(run_dir, metrics)}\n")
            except ConnectionError as error:
                sys.stderr.write(f"{error}; the run is whole in {run_dir}, but MLflow lacks its files\n")


@contextmanager
def _answering(place: str) -> Iterator[None]:
    """Turn what MLflow and AWS raise into one line."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except Exception as error:
        if not isinstance(error, MlflowException | OSError) and not type(error).__module__.startswith("botocore"):
            raise
        raise ConnectionError(f"MLflow at {place}: {' '.join(str(error).split())[:500]}") from None


def _require_packages(place: str) -> None:
    """Refuse a place that cannot work, before a training starts."""
    if importlib.util.find_spec("mlflow") is None:
        raise ValueError("logger=mlflow needs MLflow; run: pip install 'milpath[loggers]'")
    if not place.startswith("arn:"):
        return
    require_mlflow_arn("logger.mlflow.tracking_uri", place)
    if importlib.util.find_spec("sagemaker_mlflow") is None:
        raise ValueError(
            f"logger.mlflow.tracking_uri={place} needs the plugin of SageMaker; run: pip install 'milpath[managed-mlflow]'"
        )


def require_mlflow_arn(key: str, arn: str) -> None:
    """Refuse what is not the ARN of a managed MLflow.

    Args:
        key: The key that sets it, for the error message.
        arn: The value.

    Raises:
        ValueError: If it is another.
    """
    if _ARN.fullmatch(arn) is None:
        raise ValueError(
            f"{key}={arn} is not the ARN of an MLflow app or tracking server, "
            "arn:aws:sagemaker:eu-central-1:123456789012:mlflow-app/NAME"
        )
