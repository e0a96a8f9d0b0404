"""Prediction targets, one file each, and the decision made from their probabilities.

`target_named("binary")` returns an object that defines the number of network outputs, the loss, the probabilities, the
predicted class, the metrics and the headline of a report.
"""

from milpath.targets.registry import register_target, target_named, target_names
from milpath.targets.target import Target

__all__ = ["Target", "register_target", "target_named", "target_names"]
