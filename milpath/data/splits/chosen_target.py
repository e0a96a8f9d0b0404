"""The target without classes of a data set: that of its options or of a trained network, fitted on the training split."""

from collections.abc import Sequence

import pandas as pd

from milpath.data.splits.label_cells import label_array
from milpath.targets import NumericTarget, Target, target_named, target_names


def numeric_target(task: str | None, trained: Target | None) -> NumericTarget | None:
    """Return the target of a data set if it has no classes.

    Args:
        task: `data.task`; `None` takes that of the trained network.
        trained: Target of a trained network with its fitted values, which is used if it has the same name.
    """
    name = task or (None if trained is None else trained.name)
    if name is None or name not in target_names():
        return None  # an unknown name is reported together with the known ones when classes are read
    target = trained if trained is not None and trained.name == name else target_named(name)
    return target if isinstance(target, NumericTarget) else None


def fitted_numbers(
    target: NumericTarget, trained: Target | None, names: Sequence[str], table: pd.DataFrame
) -> NumericTarget:
    """Return a target fitted on the training split; that of a trained network, or without training bags, as it is.

    Args:
        target: From `numeric_target`.
        trained: As in `numeric_target`.
        names: Names of what it predicts.
        table: The bags with `split` and `label`.

    Raises:
        ValueError: If the labels of the training split are constant.
    """
    training = table.loc[table["split"] == "train", "label"]
    if target is trained or training.empty:
        return target
    return target.named_after(names).fitted_on(label_array(training))
