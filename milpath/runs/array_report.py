"""The report of predictions that another program made, from plain arrays."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from milpath.records.atomic_files import write_json
from milpath.records.plain_values import brief
from milpath.records.prediction_table import Predictions
from milpath.records.provenance import describe_environment
from milpath.reports import page
from milpath.targets import class_target_named
from milpath.targets.evaluation import evaluate_bags

# Files of a training or an evaluation, whose predictions must not be replaced.
_OF_A_RUN = ("identity.json", "config.yaml", "metrics.json")
_NO_ATTENTION = np.empty(0)


def write_report(
    labels: Sequence[int | str] | NDArray[np.generic],
    scores: ArrayLike,
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    task: str | None = None,
    threshold: float = 0.5,
    bag_ids: Sequence[object] | None = None,
    groups: Sequence[object] | NDArray[np.generic] | None = None,
    attention: Sequence[ArrayLike] | None = None,
    bags: pd.DataFrame | None = None,
    defer_below: float = 0.0,
    num_resamples: int = 1000,
    title: str | None = None,
    warning: str = "",
) -> Path:
    """Write the report of a test set, `report.html`, from the labels and the predicted probabilities of its bags.

    It is the page that `milpath train` writes: metrics with bootstrap intervals, curves, calibration and every case.

    Args:
        labels: `(bags,)`: class indices from 0, or names of classes.
        scores: Probabilities in [0, 1]: `(bags,)` of the second of two classes, or `(bags, classes)`, whose rows sum to 1.
        path: Folder of the report and of its table `predictions.csv`; created if missing.
        class_names: Names of the classes in the order of the columns; `None` sorts the names in `labels`, or numbers them.
        task: "binary", "nominal" or "ordinal"; `None` means binary for two classes and nominal for more.
        threshold: Probability of the second of two classes at or above which it is called.
        bag_ids: `(bags,)` names, all different; `None` numbers the bags from 1.
        groups: `(bags,)`, such as the patient: intervals resample groups. `None` if all bags are independent.
        attention: For each bag `(tiles,)` weights, >= 0, whose sum is 1; `None` leaves attention out.
        bags: Further columns of the bags, in the same order: shown with each case, and results by provider and grade.
        defer_below: Highest probability below which a bag is referred to a person.
        num_resamples: Bootstrap resamples of each interval.
        title: Heading; `None` for the name of the folder.
        warning: What the data say against themselves, on top of the page.

    Returns:
        The path of `report.html`.

    Raises:
        ValueError: If the arrays do not fit together, a score is not a probability, or the folder is that of a run.

    Example:
        >>> import tempfile
        >>> labels, scores = ["benign", "malignant"] * 10, np.linspace(0.05, 0.95, 20)
        >>> write_report(labels, scores, tempfile.mkdtemp(), num_resamples=20).name
        'report.html'
    """
    folder = Path(path)
    if found := next((name for name in _OF_A_RUN if (folder / name).exists()), None):
        raise ValueError(f"{folder} is the folder of a run (it has {found}); give another folder")
    probabilities = _probabilities(scores)
    names, indices = _classes(labels, class_names, probabilities.shape[1])
    task = task or ("binary" if len(names) == 2 else "nominal")
    class_target_named(task)
    num_bags = len(probabilities)
    bag_names = [str(name) for name in (range(1, num_bags + 1) if bag_ids is None else bag_ids)]
    rows = {"labels": len(indices), "bag_ids": len(bag_names)}
    rows |= {what: len(given) for what, given in (("attention", attention), ("bags", bags)) if given is not None}
    if wrong := next((what for what, count in rows.items() if count != num_bags), None):
        raise ValueError(f"scores has {num_bags} bags, but {wrong} has {rows[wrong]}; give one row per bag")
    ((most_common, count),) = Counter(bag_names).most_common(1)
    if count > 1:
        raise ValueError(f"bag_ids has {brief(most_common)} {count} times; give each bag its own name")
    outcomes = evaluate_bags(indices, probabilities, task, threshold, groups)
    weights = (
        [_NO_ATTENTION] * num_bags
        if attention is None
        else [_weights(*each) for each in zip(bag_names, attention, strict=True)]
    )
    predictions = Predictions(
        bag_ids=bag_names,
        splits=["test"] * num_bags,
        labels=indices,
        probabilities=probabilities,
        attention=weights,
        class_names=names,
        predicted=outcomes.predicted,
    )
    folder.mkdir(parents=True, exist_ok=True)
    predictions.write_csv(folder / "predictions.csv")
    write_json(folder / "provenance.json", describe_environment())
    return page.write_report(
        folder,
        task=task,
        threshold=threshold,
        defer_below=defer_below,
        bags=None if bags is None else bags.assign(bag_id=bag_names),
        groups=None if groups is None else {name: str(group) for name, group in zip(bag_names, groups, strict=True)},
        num_resamples=num_resamples,
        title=title,
        warning=warning,
    )


def _probabilities(scores: ArrayLike) -> NDArray[np.float64]:
    """Return probabilities `(bags, classes)`; refuse logits and percentages."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (1, 2) or len(values) == 0:
        raise ValueError(f"scores must be (bags,) or (bags, classes), not {values.shape}")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"scores must be probabilities in [0, 1], not {values.min():.4g} to {values.max():.4g}; convert logits by a "
            "sigmoid or softmax"
        )
    values = np.stack([1 - values, values], axis=1) if values.ndim == 1 else values
    sums = values.sum(axis=1)
    if not np.allclose(sums, 1, atol=1e-3):
        row = int(np.abs(sums - 1).argmax())
        raise ValueError(
            f"the probabilities of a bag must sum to 1; those of bag {row} (from 0) sum to {sums[row]:.4g}"
        )
    return np.asarray(values / sums[:, None])


def _classes(
    labels: Sequence[int | str] | NDArray[np.generic], class_names: Sequence[str] | None, num_classes: int
) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of the classes, and the index of each label."""
    values = np.asarray(labels)
    if values.ndim != 1:
        raise ValueError(f"labels must be (bags,), not {values.shape}")
    words = values.dtype.kind not in "iub"
    if words and values.dtype.kind == "f":
        raise ValueError("labels are fractions; give class indices from 0 as integers, or names of classes")
    own = sorted({str(value) for value in values}) if words else [str(number) for number in range(num_classes)]
    names = own if class_names is None else [str(name) for name in class_names]
    if len(names) != num_classes:
        raise ValueError(
            f"scores has {num_classes} classes, but there are {len(names)} names ({', '.join(names)}); give class_names="
        )
    if not words:
        indices = values.astype(np.int64)
        if len(indices) and (indices.min() < 0 or indices.max() >= num_classes):
            raise ValueError(f"labels must be from 0 to {num_classes - 1}, not {indices.min()} to {indices.max()}")
        return names, indices
    if unknown := next((str(value) for value in values if str(value) not in names), None):
        raise ValueError(f"label {brief(unknown)} is not one of class_names {', '.join(names)}")
    return names, np.array([names.index(str(value)) for value in values], dtype=np.int64)


def _weights(bag_id: str, attention: ArrayLike) -> NDArray[np.float64]:
    """Return the attention of a bag; refuse one that is not normalised."""
    weights = np.asarray(attention, dtype=np.float64)
    if weights.ndim != 1 or len(weights) == 0 or not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"the attention of bag {bag_id!r} must be (tiles,), finite and not negative")
    if not np.isclose(weights.sum(), 1, atol=1e-3):
        raise ValueError(f"the attention of bag {bag_id!r} sums to {weights.sum():.4g}; it must sum to 1")
    return weights
