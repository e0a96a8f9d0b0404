"""Conformal prediction: sets and intervals that hold the truth with a chosen probability."""

from milpath.metrics.conformal.conformity_scores import CLASSES, NUMBERS, ORDERED, class_scores, fewest_groups
from milpath.metrics.conformal.cross_conformal import CrossConformal, FoldScores, fit_cross_conformal
from milpath.metrics.conformal.measured_coverage import measured_coverage
from milpath.metrics.conformal.prediction_sets import Conformal, fit_conformal
from milpath.metrics.conformal.set_metrics import FITTED_ON, MeasuredSets, measure_sets, set_metrics

__all__ = [
    "CLASSES",
    "FITTED_ON",
    "NUMBERS",
    "ORDERED",
    "Conformal",
    "CrossConformal",
    "FoldScores",
    "MeasuredSets",
    "class_scores",
    "fewest_groups",
    "fit_conformal",
    "fit_cross_conformal",
    "measure_sets",
    "measured_coverage",
    "set_metrics",
]
