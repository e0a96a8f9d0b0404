"""Run folders with predictions of every kind of target, as two trainings on the same bags leave them."""

from pathlib import Path

import numpy as np
import pandas as pd

from milpath.records.prediction_table import Predictions
from milpath.runs.result_files import write_results
from milpath.targets import NumericTarget, Several, target_named
from milpath.targets.regression import Regression
from milpath.targets.survival.survival import Survival

CLASSES = ("benign", "malignant")
THRESHOLD = 0.3


def write_class_run(
    path: Path, seed: int = 0, *, num_bags: int = 60, first: int = 0, task: str = "binary", class_names=CLASSES,
    patients: int = 0, changed: int | None = None, reverse: bool = False, noise: float = 1.0,
) -> Path:  # fmt: skip
    """Write the run of a network with classes; the truth of a bag does not depend on the seed."""
    numbers = np.arange(first, first + num_bags)
    labels = numbers * 7 % len(class_names)
    generator = np.random.default_rng(seed)
    logits = 1.5 * np.eye(len(class_names))[labels] + noise * generator.normal(size=(num_bags, len(class_names)))
    if changed is not None:
        labels[changed] = (labels[changed] + 1) % len(class_names)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    predicted = (probabilities[:, 1] >= THRESHOLD).astype(np.int64) if task == "binary" else probabilities.argmax(1)
    order = np.arange(num_bags)[::-1] if reverse else np.arange(num_bags)
    ids = [f"bag_{number}" for number in numbers[order]]
    of_patients = None if not patients else [f"p{number % patients}" for number in numbers[order]]
    predictions = Predictions(
        ids, ["test"] * num_bags, labels[order], probabilities[order], [np.ones(1)] * num_bags, class_names, predicted[order]
    )  # fmt: skip
    return _write(path, predictions, target_named(task), of_patients)


def write_number_run(path: Path, seed: int = 0, unit: str = "years", num_bags: int = 60) -> Path:
    """Write the run of a regression."""
    truth = 40 + np.arange(num_bags)[:, None] * 0.7
    predicted = truth + np.random.default_rng(seed).normal(size=truth.shape) * 5
    target = Regression(["age"], [unit]).fitted_on(truth)
    return _write(path, _numbers(truth, predicted, target), target)


def write_times_run(path: Path, seed: int = 0, times=(2.0, 4.0), num_bags: int = 60) -> Path:
    """Write the run of a survival network, Cox, with its baseline of the same bags."""
    import torch

    generator = np.random.default_rng(5)
    hazard = generator.normal(size=num_bags)
    labels = np.stack([generator.exponential(np.exp(-hazard) * 4) + 0.1, generator.random(num_bags) < 0.7], axis=1)
    risk = hazard + np.random.default_rng(seed).normal(size=num_bags)
    target = Survival(times=list(times), unit="months").fitted_on(labels)
    target = target.fitted_on_predictions(risk[:, None].astype(np.float32), labels)
    answers = target.answers(torch.from_numpy(risk[:, None])).numpy()
    return _write(path, _numbers(labels, answers, target), target)


def write_several_run(path: Path, seed: int = 0, num_bags: int = 60) -> Path:
    """Write the run of a grade, of which some labels are missing, and an age."""
    generator = np.random.default_rng(seed)
    labels = np.stack([np.arange(num_bags) % 3, 50 + np.arange(num_bags) * 0.5], axis=1).astype(float)
    target = Several({"grade": {"task": "ordinal", "class_names": ["low", "middle", "high"]}, "age": "regression"})
    table = pd.DataFrame({"bag_id": np.arange(num_bags).astype(str), "grade": labels[:, 0], "age": labels[:, 1]})
    target, _ = target.read(
        table.assign(grade=[["low", "middle", "high"][int(each)] for each in labels[:, 0]]), ["grade", "age"]
    )
    target = target.fitted_on(labels)
    labels[::5, 0] = np.nan
    logits = 1.5 * np.eye(3)[np.arange(num_bags) % 3] + generator.normal(size=(num_bags, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    age = labels[:, 1:] + generator.normal(size=(num_bags, 1)) * 3
    return _write(path, _numbers(labels, np.concatenate([probabilities, age], axis=1), target), target)


def _numbers(labels, answers, target: NumericTarget) -> Predictions:
    columns = {
        "label_columns": [f"label_{name}" for name in target.label_columns],
        "answer_columns": target.answer_columns,
    }
    count = len(labels)
    ids = [f"bag_{number}" for number in range(count)]
    return Predictions(ids, ["test"] * count, labels, answers, [np.ones(1)] * count, target.names, **columns)


def _write(path: Path, predictions: Predictions, target, groups=None) -> Path:
    path.mkdir(parents=True)
    write_results(path, predictions, target, THRESHOLD)
    table = pd.DataFrame({"id": predictions.bag_ids, "split": predictions.splits, "label": 0})
    (table if groups is None else table.assign(group=groups)).to_csv(path / "splits.csv", index=False)
    return path
