"""Whether two runs predict the same thing, so that their metrics may stand side by side."""

from collections.abc import Iterable, Iterator

from milpath.records.prediction_table import Predictions
from milpath.targets import NumericTarget, Regression, Several, Survival, Target

Named = tuple[str, Target, Predictions]


def require_same_target(first: Named, other: Named) -> None:
    """Refuse runs of different targets, classes, columns, units or times.

    Args:
        first: Name of a run, its target and its predictions.
        other: Likewise.

    Raises:
        ValueError: If their metrics do not mean the same.
    """
    if first[1].name != other[1].name:
        _refuse(first[0], other[0], "target", first[1].name, other[1].name)
    if not isinstance(first[1], NumericTarget) and list(first[2].class_names) != list(other[2].class_names):
        _refuse(first[0], other[0], "classes", ", ".join(first[2].class_names), ", ".join(other[2].class_names))
    for what, own, others in _facts(first[1], other[1]):
        if own != others:
            _refuse(first[0], other[0], what, own, others)


def _facts(first: Target, other: Target) -> Iterator[tuple[str, str, str]]:
    """Yield what two targets of one kind must share, as the words of both."""
    if not isinstance(first, NumericTarget) or not isinstance(other, NumericTarget):
        return
    yield "labels", ", ".join(first.label_columns), ", ".join(other.label_columns)
    if isinstance(first, Several) and isinstance(other, Several):
        for own, others in zip(first.members, other.members, strict=True):
            yield f"kind of {own.name}", own.target.name, others.target.name
            yield f"classes of {own.name}", ", ".join(own.class_names), ", ".join(others.class_names)
            for what, one, two in _facts(own.target, others.target):
                yield f"{what} of {own.name}", one, two
        return
    if isinstance(first, Survival) and isinstance(other, Survival):
        # The mean AUROC and the integrated Brier score are over these times.
        yield "times", _numbers(first.times), _numbers(other.times)
        yield "unit", first.unit or "none", other.unit or "none"
    if isinstance(first, Regression) and isinstance(other, Regression):
        count = len(first.names)
        yield "units", ", ".join(first.units[:count]), ", ".join(other.units[:count])
        if first.levels and other.levels:
            yield "levels of the quantiles", _numbers(first.levels), _numbers(other.levels)


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _refuse(first: str, other: str, what: str, own: str, others: str) -> None:
    raise ValueError(
        f"{first} and {other} predict different things: {what} ({own or 'none'}) in {first}, ({others or 'none'}) in "
        f"{other}; compare runs of one target"
    )
