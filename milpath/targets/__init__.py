"""Prediction targets, one file each (several at once in `several`), and the decision made from their probabilities.

`target_named("binary")` returns an object that defines the number of network outputs, the loss, the predictions, the
metrics and the headline of a report.
"""

from milpath.targets.numeric_target import NumericTarget
from milpath.targets.registry import (
    class_target_named,
    ensure_registered,
    register_target,
    target_named,
    target_names,
    target_of,
)
from milpath.targets.regression import Regression
from milpath.targets.several.multilabel import Multilabel
from milpath.targets.several.several import Several
from milpath.targets.survival.survival import Survival
from milpath.targets.target import ClassTarget, Target

__all__ = [
    "ClassTarget",
    "Multilabel",
    "NumericTarget",
    "Regression",
    "Several",
    "Survival",
    "Target",
    "class_target_named",
    "ensure_registered",
    "register_target",
    "target_named",
    "target_names",
    "target_of",
]

# Not in the registry itself, which they look up their members in.
for _target in (Several(), Multilabel()):
    register_target(_target)
