"""Score an endpoint on the test bags: `python -m milpath.sagemaker.score endpoint=NAME data=NAME`.

Writes `metrics.json` and `predictions.csv` as `milpath.evaluate` does; for the same checkpoint they are identical.
"""

import io
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.console import Console

from milpath.config.command import command
from milpath.data.datamodule import BagDataModule
from milpath.models.tile_maps import is_tile_map
from milpath.records.data_warning import UNFAMILIAR_COLUMNS
from milpath.records.error_text import one_line_of
from milpath.records.prediction_table import Predictions
from milpath.runs.build import build_datamodule
from milpath.runs.evaluation.evaluated_data import untested_bags
from milpath.runs.result_files import Metrics, summary_table, write_results
from milpath.sagemaker.jobs.aws_account import open_account
from milpath.sagemaker.jobs.endpoint_client import EndpointClient
from milpath.sagemaker.jobs.job_configs import SCORE


def run(config: DictConfig) -> Metrics:
    """Send every bag of some splits to an endpoint and evaluate its predictions.

    Args:
        config: The composed root of the `sagemaker_score` command.

    Returns:
        Split to metric to value, as in `metrics.json`.

    Raises:
        ValueError: If the endpoint refuses a bag, or its classes are not those of the data.
        FileExistsError: If the run folder already holds results.
    """
    run_dir = Path(config.paths.run_dir)
    if (run_dir / "metrics.json").exists():
        raise FileExistsError(f"{run_dir} already holds results; give another run_name")
    datamodule = build_datamodule(config.data)
    datamodule.setup("test")
    splits = [split for split in config.splits if split in datamodule.splits]
    if not splits:
        raise ValueError(
            f"splits={list(config.splits)} has none of the splits of the data: {', '.join(datamodule.splits)}"
        )
    asker = EndpointClient(
        open_account(config.region), config.endpoint, config.s3_prefix, config.asynchronous, config.timeout_seconds
    )
    rows = datamodule.label_frame[datamodule.label_frame["split"].isin(splits)]
    started = time.monotonic()
    with ThreadPoolExecutor(config.in_flight) as pool:
        answers = list(pool.map(lambda row: _ask(asker, datamodule, row), rows.to_dict("records")))
    seconds = time.monotonic() - started
    threshold = _operating_point(answers, datamodule)
    run_dir.mkdir(parents=True, exist_ok=True)
    predictions = _predictions(answers, datamodule, rows["split"].tolist(), rows["label"].to_numpy())
    metrics = write_results(run_dir, predictions, datamodule.task, threshold, groups=datamodule.groups)
    Console().print(summary_table(metrics, title=str(run_dir)))
    if note := untested_bags(datamodule, config.data, list(config.splits)):
        sys.stdout.write(note + "\n")
    if answers[0]["warning"]:
        sys.stdout.write(f"warning: {one_line_of(answers[0]['warning'])}\n")
    sys.stdout.write(f"{len(answers)} bags in {seconds:.1f} s: {len(answers) / seconds:.1f} bags/s\n")
    return metrics


def _ask(asker: EndpointClient, datamodule: BagDataModule, row: dict[str, Any]) -> dict[str, Any]:
    """Return the endpoint's prediction of one bag, with its name."""
    body = io.BytesIO()
    np.save(body, datamodule.store.tiles[datamodule.store.tile_slice(row["index"])], allow_pickle=False)
    answer = asker.ask(body.getvalue(), row["bag_id"])
    prediction: dict[str, Any] = answer["predictions"][0]
    said = {"class_names": answer["class_names"], "warning": answer.get("warning", "")}
    return prediction | {"bag_id": row["bag_id"]} | said


def _operating_point(answers: list[dict[str, Any]], datamodule: BagDataModule) -> float:
    """Return the threshold of the endpoint after checking its classes."""
    names = answers[0]["class_names"]
    if not datamodule.fitted_target.has_classes:
        raise ValueError(
            f"data.task={datamodule.task} has no classes, and an endpoint is scored on classes; give data.task=null, or "
            "evaluate the checkpoint with milpath evaluate"
        )
    if names != list(datamodule.class_names):
        raise ValueError(
            f"the endpoint has the classes {', '.join(names)}, but the data have {', '.join(datamodule.class_names)}; "
            + (
                f"give data.class_names=[{','.join(names)}]"
                if set(names) == set(datamodule.class_names)
                else "set data.target or data.class_names"
            )
        )
    return 0.5 if answers[0]["threshold"] is None else float(answers[0]["threshold"])


def _predictions(
    answers: list[dict[str, Any]], datamodule: BagDataModule, splits: list[str], labels: np.ndarray
) -> Predictions:
    """Return the responses as predictions."""
    names = list(datamodule.class_names)
    maps = [name for name in answers[0] if is_tile_map(name)]
    return Predictions(
        bag_ids=[answer["bag_id"] for answer in answers],
        splits=splits,
        labels=labels.astype(np.int64),
        probabilities=np.array([[a["probabilities"][name] for name in names] for a in answers], np.float32),
        attention=[np.array(answer["attention"], np.float32) for answer in answers],
        class_names=names,
        predicted=np.array([names.index(answer["label"]) for answer in answers], np.int64),
        maps={name: [np.array(answer[name], np.float32) for answer in answers] for name in maps},
        unfamiliarity=np.array([[answer[name] for name in UNFAMILIAR_COLUMNS] for answer in answers], np.float64)
        if UNFAMILIAR_COLUMNS[0] in answers[0]
        else None,
    )


@command(SCORE)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
