"""Perturbation of bags: what a network says while tiles are removed or put back in the order of their relevance."""

from milpath.inference.faithfulness.explained_quantity import Question, question_of
from milpath.inference.faithfulness.measure_bags import MeasuredBag, MeasureOptions, measure_bags

__all__ = ["MeasureOptions", "MeasuredBag", "Question", "measure_bags", "question_of"]
