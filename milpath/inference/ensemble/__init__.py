"""One answer from the folds of a cross-validation."""

from milpath.inference.ensemble.predictor import Predictor, open_predictor

__all__ = ["Predictor", "open_predictor"]
