"""Training with Lightning, for any network with `forward(tiles, mask) -> MILOutput`."""

from milpath.training.classifier import MILClassifier

__all__ = ["MILClassifier"]
