import numpy as np
import pytest
import torch

from milpath.metrics.evaluated_bags import make_outcomes
from milpath.training.split_metrics import predicted_classes


@pytest.mark.parametrize(("num_classes", "task"), [(2, "binary"), (4, "nominal"), (6, "ordinal")])
def test_bags_are_called_as_training_calls_them(num_classes, task):
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(num_classes), 500)
    outcomes = make_outcomes(np.zeros(500, int), probabilities, task, threshold=0.37)
    expected = predicted_classes(torch.from_numpy(probabilities), task, 0.37).numpy()
    assert (outcomes.predicted == expected).all()


@pytest.mark.parametrize(
    ("labels", "probabilities", "task", "words"),
    [
        ([0], [[0.5, 0.5]], "regression", "task 'regression' is none of binary, nominal, ordinal"),
        ([0], [[0.2, 0.3, 0.5]], "binary", "has 2 classes"),
        ([2], [[0.5, 0.5]], "binary", "labels must lie in 0..1"),
        ([0], [[0.5, 0.2]], "binary", "sum to 1"),
        ([0], [[float("nan"), 0.2]], "binary", "finite"),
        ([0, 1], [[0.5, 0.5]], "binary", "expected labels"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(labels, probabilities, task, words):
    with pytest.raises(ValueError, match=words):
        make_outcomes(labels, np.array(probabilities), task)


def test_a_group_for_each_bag_is_asked_for():
    with pytest.raises(ValueError, match="2 bags have 1 groups"):
        make_outcomes([0, 1], np.full((2, 2), 0.5), "binary", groups=["a"])
