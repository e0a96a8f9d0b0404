"""What a bag is asked: one file per target, and the decision made from its probabilities.

`target_named("binary")` gives an object that knows the outputs a network needs, the loss of a bag, the probabilities and the
call, the metrics and the sentence of a report.
"""

from milpath.targets.registry import register_target, target_named, target_names
from milpath.targets.target import Target

__all__ = ["Target", "register_target", "target_named", "target_names"]
