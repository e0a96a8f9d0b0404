"""How unfamiliar the bags of a run are, as the report shows it: a table by split and their distribution."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.conformal.measured_coverage import measured_coverage
from milpath.metrics.intervals import Interval, bootstrap_interval
from milpath.models.familiarity import TIE, Familiarity
from milpath.reports.plots.figures import SPLIT_NAMES
from milpath.reports.plots.plot_style import FAINT, Plot, add_line, new_figure
from milpath.reports.run_folder import RunFolder

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FamiliarityRow:
    """A split.

    Attributes:
        name: Its name in words.
        num_bags: Number of bags.
        num_above: How many are above the bound.
        share: Their share with Wilson's interval, each patient counting once; undefined without a bound.
        shift: Probability that a bag is more unfamiliar than a validation bag, equal ones counting half.
    """

    name: str
    num_bags: int
    num_above: int
    share: Interval
    shift: Interval


@dataclass(frozen=True)
class FamiliarityResults:
    """Unfamiliarity of a run.

    Attributes:
        rows: One per split.
        num_training: Number of bags that the model was fitted on.
        num_validation: Number of bags that scores are compared with.
        bound_in_words: What the bound is.
        with_training: Whether training bags are among the splits.
    """

    rows: Sequence[FamiliarityRow]
    num_training: int
    num_validation: int
    bound_in_words: str
    with_training: bool


def familiarity_results(
    run: RunFolder, familiarity: Familiarity | None, groups: NDArray[np.str_] | None
) -> tuple[FamiliarityResults | None, list[Plot]]:
    """Return the table and the plot of a run; `None` and no plot without a model of familiar slides.

    Args:
        run: The run, whose predictions have the columns of unfamiliarity.
        familiarity: The models that judged them.
        groups: `(bags,)` patient of each bag; `None` if all bags are independent.
    """
    values = run.predictions.unfamiliarity
    if familiarity is None or values is None:
        return None, []
    known, rows, scores = familiarity.scores, [], {}
    for split in run.splits:
        chosen = run.rows(split)
        own, of_groups = values[chosen, 2], None if groups is None else groups[chosen]
        name = SPLIT_NAMES.get(split, split)
        scores[name] = own
        rows.append(
            FamiliarityRow(
                name,
                len(own),
                int((values[chosen, 0] == 1).sum()),
                Interval(None, None, None)
                if familiarity.bound is None
                else measured_coverage(values[chosen, 0] == 1, of_groups),
                bootstrap_interval(partial(_mean, places_among(own, known)), len(own), of_groups, 1000),
            )
        )
    training = sum(model.num_bags for model in familiarity.models)
    said = familiarity.say_bound()
    results = FamiliarityResults(rows, training, len(known), said, "train" in run.splits)
    return results, [_plot(scores, known, familiarity.bound)]


def places_among(scores: Array, known: Array) -> Array:
    """Return for each score the share of the known scores (in ascending order) below it, equal ones counting half."""
    below, up_to = np.searchsorted(known, scores - TIE, "left"), np.searchsorted(known, scores + TIE, "right")
    found: Array = (below + up_to) / (2 * len(known))
    return found


def _mean(values: Array, weights: Array | None) -> Array:
    """Return the mean of values, or that of each row of weights."""
    return np.asarray(values.mean() if weights is None else weights @ values / weights.sum(axis=1))


def _plot(scores: dict[str, Array], known: Array, bound: float | None) -> Plot:
    """Return the cumulative distribution of the scores of each split, those of the validation bags of the training first."""
    figure = new_figure("unfamiliarity score", "share of bags at or below")
    curves = {"compared with": known}
    curves |= {name: own for name, own in scores.items() if not np.array_equal(np.sort(own), known)}
    words = []
    for number, (name, own) in enumerate(curves.items()):
        ordered = np.sort(own)
        heights = np.arange(1, len(ordered) + 1) / len(ordered)
        title = f"validation bags of the training ({len(own):,})" if not number else f"{name} ({len(own):,})"
        add_line(figure, ordered, heights, title, number, shape="hv")
        if len(ordered) == 1:
            # A line with a single point would be invisible.
            figure.data[-1].mode = "markers"
        words.append(f"{title}: median {np.median(own):.2f}")
    if bound is not None:
        figure.add_vline(x=bound, line={"color": FAINT, "width": 1.5, "dash": "dash"})
        words.append(f"bags to the right of the dashed line ({bound:.2f}) are referred to a person")
    figure.update_yaxes(range=[0, 1.02])
    # The distances of other cohorts can be many times larger; their order is what counts.
    last = max(float(np.quantile(own, 0.9)) for own in curves.values())
    figure.update_xaxes(range=[float(known[0]) - 0.5, max(last, float(known[-1]), bound or 0) + 0.5])
    return Plot("unfamiliarity", "Unfamiliarity", f"{'; '.join(words)}.".replace("v", "V", 1), figure)
