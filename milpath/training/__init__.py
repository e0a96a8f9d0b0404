"""Training of any network that keeps the contract, on Lightning."""

from milpath.training.classifier import MILClassifier

__all__ = ["MILClassifier"]
