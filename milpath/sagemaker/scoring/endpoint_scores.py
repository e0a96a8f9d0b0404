"""The test bags of a data set, sent to an endpoint and evaluated."""

import io
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from rich.console import Console

from milpath.data.datamodule import BagDataModule
from milpath.data.splits.label_cells import label_array
from milpath.models.card import Card
from milpath.models.tile_maps import is_tile_map
from milpath.records.data_warning import UNFAMILIAR_COLUMNS
from milpath.records.error_text import one_line_of
from milpath.records.prediction_table import Predictions
from milpath.runs.build import build_datamodule
from milpath.runs.evaluation.evaluated_data import keep_target, untested_bags
from milpath.runs.evaluation.evaluation_options import require_known_splits
from milpath.runs.fitted_sets import measured_sets, with_set_columns
from milpath.runs.result_files import Metrics, summary_table, write_results
from milpath.sagemaker.jobs.aws_account import open_account
from milpath.sagemaker.jobs.endpoint_client import EndpointClient
from milpath.targets import NumericTarget, Target, target_named, target_of
from milpath.training.callbacks.predict_splits import columns_of


def score_endpoint(config: DictConfig) -> Metrics:
    """Send every bag of some splits to an endpoint and evaluate its predictions.

    Args:
        config: The composed root of the `sagemaker_score` command.

    Returns:
        Split to metric to value, as in `metrics.json`.

    Raises:
        ValueError: If the endpoint refuses a bag, or does not predict the labels of the data.
        FileExistsError: If the run folder already holds results.
    """
    require_known_splits(config.splits)
    run_dir = Path(config.paths.run_dir)
    if (run_dir / "metrics.json").exists():
        raise FileExistsError(f"{run_dir} already holds results; give another run_name")
    if config.data.get("aggregate"):
        raise ValueError(
            f"data.aggregate={config.data.aggregate} is for milpath evaluate; an endpoint is scored by bag: leave it out"
        )
    asker = EndpointClient(
        open_account(config.region), config.endpoint, config.s3_prefix, config.asynchronous, config.timeout_seconds
    )
    card = asker.card()
    datamodule = _opened_data(config, card)
    splits = [split for split in config.splits if split in datamodule.splits]
    if not splits:
        raise ValueError(
            f"splits={list(config.splits)} has none of the splits of the data: {', '.join(datamodule.splits)}"
        )
    frame = datamodule.label_frame
    rows = pd.concat([frame[frame["split"] == split] for split in splits])
    started = time.monotonic()
    with ThreadPoolExecutor(config.in_flight) as pool:
        answers = list(pool.map(lambda row: _ask(asker, datamodule, row), rows.to_dict("records")))
    seconds = time.monotonic() - started
    card = card or _card_of_answers(answers, datamodule)
    run_dir.mkdir(parents=True, exist_ok=True)
    predictions = with_set_columns(_predictions(answers, target_of(card), card.class_names, rows), card, None)
    metrics = write_results(
        run_dir, predictions, target_of(card), card.threshold,
        more=measured_sets(predictions, card, datamodule.groups), groups=datamodule.groups,
    )  # fmt: skip
    Console().print(summary_table(metrics, title=str(run_dir)))
    if note := untested_bags(datamodule, config.data, list(config.splits)):
        sys.stdout.write(note + "\n")
    if answers[0]["note"]:
        sys.stdout.write(f"{one_line_of(answers[0]['note'])}\n")
    if answers[0]["warning"]:
        sys.stdout.write(f"warning: {one_line_of(answers[0]['warning'])}\n")
    sys.stdout.write(f"{len(answers)} bags in {seconds:.1f} s: {len(answers) / seconds:.1f} bags/s\n")
    return metrics


def _opened_data(config: DictConfig, card: Card | None) -> BagDataModule:
    """Return the data, with the labels that the network of the endpoint predicts.

    Raises:
        ValueError: If the data have other labels.
    """
    datamodule = build_datamodule(config.data)
    if card is not None:
        keep_target(datamodule, card)
    datamodule.setup("test")
    if card is not None:
        _require_same_labels(card.task, list(card.class_names), datamodule)
    elif not datamodule.fitted_target.has_classes:
        raise ValueError(
            f"the endpoint {config.endpoint} runs an older milpath, which cannot be scored on a {datamodule.task} task; "
            "package its checkpoint and deploy it again"
        )
    return datamodule


def _ask(asker: EndpointClient, datamodule: BagDataModule, row: dict[str, Any]) -> dict[str, Any]:
    """Return the endpoint's prediction of one bag, with its name."""
    body = io.BytesIO()
    np.save(body, datamodule.store.tiles[datamodule.store.tile_slice(row["index"])], allow_pickle=False)
    answer = asker.ask(body.getvalue(), row["bag_id"])
    prediction: dict[str, Any] = answer["predictions"][0]
    said = {"class_names": answer["class_names"], "warning": answer.get("warning", ""), "note": answer.get("note", "")}
    return prediction | {"bag_id": row["bag_id"]} | said


def _card_of_answers(answers: list[dict[str, Any]], datamodule: BagDataModule) -> Card:
    """Return the card as far as answers with classes tell it."""
    names, threshold = answers[0]["class_names"], answers[0]["threshold"]
    _require_same_labels(datamodule.task, names, datamodule)
    return Card({}, tuple(names), datamodule.task, 0.5 if threshold is None else float(threshold))


def _require_same_labels(task: str, names: list[str], datamodule: BagDataModule) -> None:
    """Refuse data whose labels are not those that the endpoint predicts."""
    found = list(datamodule.class_names)
    if names != found and target_named(task).has_classes and datamodule.fitted_target.has_classes:
        raise ValueError(
            f"the endpoint has the classes {', '.join(names)}, but the data have {', '.join(found)}; "
            + (
                f"give data.class_names=[{','.join(names)}]"
                if set(names) == set(found)
                else "set data.target, data.label_column or data.class_names"
            )
        )
    if (task, names) != (datamodule.task, found):
        raise ValueError(
            f"the endpoint predicts {task} {', '.join(names)}, but the data have {datamodule.task} {', '.join(found)}; "
            "set data.target, data.task, data.label_column or data.class_names"
        )


def _predictions(
    answers: list[dict[str, Any]], target: Target, class_names: Sequence[str], rows: pd.DataFrame
) -> Predictions:
    """Return the responses as predictions.

    Args:
        answers: One per bag.
        target: The target of the endpoint.
        class_names: Its classes.
        rows: The bags, with `split` and `label`.
    """
    maps = [name for name in answers[0] if is_tile_map(name)]
    of_target: dict[str, Any]
    if isinstance(target, NumericTarget):
        numbers = [[answer["answers"][name] for name in target.answer_columns] for answer in answers]
        calls = [[answer["calls"][name] for name in target.call_columns] for answer in answers if target.call_columns]
        of_target = {"calls": calls, "call_columns": target.call_columns, **columns_of(target)}
    else:
        numbers = [[answer["probabilities"][name] for name in class_names] for answer in answers]
        of_target = {"predicted": np.array([class_names.index(answer["label"]) for answer in answers], np.int64)}
    return Predictions(
        bag_ids=[answer["bag_id"] for answer in answers],
        splits=rows["split"].tolist(),
        labels=label_array(rows["label"]),
        probabilities=np.array(numbers, np.float32),  # a number that is not defined is null and becomes NaN
        attention=[np.array(answer["attention"], np.float32) for answer in answers],
        class_names=list(class_names),
        maps={name: [np.array(answer[name], np.float32) for answer in answers] for name in maps},
        unfamiliarity=np.array([[answer[name] for name in UNFAMILIAR_COLUMNS] for answer in answers], np.float64)
        if UNFAMILIAR_COLUMNS[0] in answers[0]
        else None,
        **of_target,
    )
