"""Plots of survival: Kaplan-Meier curves by risk group with the numbers at risk, and calibration at the chosen times."""

import numpy as np
import plotly.graph_objects as go

from milpath.metrics.survival.evaluated_times import EvaluatedTimes
from milpath.metrics.survival.risk_groups import GroupComparison, compare_groups
from milpath.metrics.survival.survival_curves import kaplan_meier, numbers_at_risk
from milpath.reports.plots.plot_style import COLOURS, DASHES, Plot, add_reference, new_figure, round_off

_GROUPS = 4
_MIN_BAGS = 5
_MOMENTS = 5


def survival_plots(outcomes: EvaluatedTimes, risk_cut: float | None, unit: str) -> list[Plot]:
    """Return the plots of a split.

    Args:
        outcomes: Evaluated bags.
        risk_cut: Risk from which a bag is in the group with the higher risk: the median of the training split, never of
            the bags shown; `None` if there was no training split.
        unit: Unit of the times; empty if unknown.
    """
    plots = [] if risk_cut is None else [_kaplan_meier_plot(outcomes, risk_cut, f" [{unit}]" if unit else "")]
    if outcomes.survival is not None:
        plots += [_calibration_plot(outcomes, place, unit) for place in range(len(outcomes.times))]
    return plots


def risk_table(outcomes: EvaluatedTimes, risk_cut: float | None) -> list[list[str]]:
    """Return the numbers at risk below the Kaplan-Meier curves as rows of text, the first with the times; empty without.

    Args:
        outcomes: Evaluated bags.
        risk_cut: As in `survival_plots`.
    """
    if risk_cut is None:
        return []
    high, moments = outcomes.risk >= risk_cut, _moments(outcomes)
    rows = [["at risk", *(f"{moment:.3g}" for moment in moments)]]
    for name, group in (("lower risk", ~high), ("higher risk", high)):
        rows.append([name, *(f"{count:,}" for count in numbers_at_risk(outcomes.time[group], moments))])
    return rows


def _moments(outcomes: EvaluatedTimes) -> np.ndarray:
    """Return the times at which bags at risk are counted."""
    return np.linspace(0, float(outcomes.time.max()), _MOMENTS)


def comparison_in_words(found: GroupComparison) -> str:
    """Return log-rank test and hazard ratio as text.

    Example:
        >>> comparison_in_words(GroupComparison(5.2, 0.0226, 2.31, 1.1, 4.84))
        'log-rank test p = 0.023; hazard ratio 2.31 (95% interval 1.10 to 4.84)'
    """
    if found.p_value is None:
        return "the groups cannot be compared: one is empty or there is no event"
    p_value = "p < 0.001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    if found.by_patient:
        p_value += " (by group, since bags of one group are not independent)"
    if found.hazard_ratio is None:
        return f"log-rank test {p_value}; no hazard ratio, because one group has no event"
    interval = f"95% interval {found.low:.2f} to {found.high:.2f}"
    return f"log-rank test {p_value}; hazard ratio {found.hazard_ratio:.2f} ({interval})"


def _kaplan_meier_plot(outcomes: EvaluatedTimes, risk_cut: float, unit: str) -> Plot:
    """Return the curves of both risk groups."""
    high = outcomes.risk >= risk_cut
    last = float(outcomes.time.max())
    moments = _moments(outcomes)
    figure = new_figure(f"time{unit}", "share without event")
    words = []
    for number, (name, group) in enumerate((("lower risk", ~high), ("higher risk", high))):
        if not group.any():
            continue
        time, event = outcomes.time[group], outcomes.event[group]
        curve = kaplan_meier(time, event)
        x, y = np.r_[0.0, curve.times], np.r_[1.0, curve.levels]
        line = {"color": COLOURS[number], "dash": DASHES[number], "width": 2, "shape": "hv"}
        figure.add_trace(go.Scatter(x=round_off(x), y=round_off(y), name=name, mode="lines", line=line))
        censored = np.unique(time[~event])
        mark = {"color": COLOURS[number], "symbol": "line-ns-open", "size": 7}
        figure.add_trace(
            go.Scatter(
                x=round_off(censored), y=round_off(curve.at(censored)), mode="markers", marker=mark, showlegend=False,
                hoverinfo="skip",
            )
        )  # fmt: skip
        words.append(f"{name}: {int(event.sum()):,} events in {int(group.sum()):,} bags")
    figure.update_yaxes(range=[0, 1.03])
    figure.update_xaxes(range=[0, last * 1.02], tickvals=round_off(moments), tickformat=".3~g")
    found = comparison_in_words(compare_groups(outcomes.time, outcomes.event, high, outcomes.groups))
    caption = (
        f"The groups are cut at the median risk of the training split. {found[0].upper()}{found[1:]}. "
        f"{'; '.join(words).capitalize()}. Ticks are censored bags; the table below has the numbers at risk."
    )
    return Plot("kaplan-meier", "Survival by predicted risk", caption, figure)


def _calibration_plot(outcomes: EvaluatedTimes, place: int, unit: str) -> Plot:
    """Return observed against predicted survival at one time in groups of equal size."""
    x, y = survival_calibration(outcomes, place)
    count, time = len(x), float(outcomes.times[place])
    at = f"{time:.4g} {unit}".strip()
    figure = new_figure(f"predicted share without event up to {at}", "observed share (Kaplan-Meier)")
    add_reference(figure, [0, 1], [0, 1], "perfect")
    marker = {"color": COLOURS[0], "size": 9}
    figure.add_trace(go.Scatter(x=round_off(x), y=round_off(y), mode="lines+markers", marker=marker, showlegend=False))
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(range=[-0.03, 1.05])
    words = f"Bags in {count} group{'s' if count > 1 else ''} of equal size by predicted survival up to {at}."
    return Plot(f"survival-calibration-{place}", f"Calibration at {at}", words, figure)


def survival_calibration(outcomes: EvaluatedTimes, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean predicted and observed survival at one time in groups of equal size by prediction, `(groups,)` each.

    Args:
        outcomes: Evaluated bags with predicted survival.
        place: Position of the time in `outcomes.times`.
    """
    assert outcomes.survival is not None
    time, predicted = float(outcomes.times[place]), outcomes.survival[:, place]
    count = max(1, min(_GROUPS, outcomes.num_bags // _MIN_BAGS))
    groups = np.array_split(np.argsort(predicted, kind="stable"), count)
    x = [float(predicted[rows].mean()) for rows in groups]
    y = [float(kaplan_meier(outcomes.time[rows], outcomes.event[rows]).at(time)[0]) for rows in groups]
    return np.array(x), np.array(y)
