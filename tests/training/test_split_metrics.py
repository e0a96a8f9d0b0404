import numpy as np
import pytest
import torch

from milpath.targets.evaluation import compute_metrics
from milpath.training.split_metrics import SplitMetrics


def _bags(num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_classes)
    labels = torch.randint(num_classes, (200,), generator=generator)
    logits = torch.randn(200, num_classes, generator=generator) + 2 * torch.nn.functional.one_hot(labels, num_classes)
    return logits.softmax(1), labels


def test_batches_give_what_all_bags_at_once_give():
    probabilities, labels = _bags(2)
    metrics = SplitMetrics("binary")
    for start in range(0, 200, 7):
        metrics.update(probabilities[start : start + 7], labels[start : start + 7])
    expected = compute_metrics(probabilities.numpy().astype(np.float32), labels.numpy(), "binary")
    assert metrics.compute() == expected


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="'counting' is not one of binary, nominal, ordinal"):
        SplitMetrics("counting")


@pytest.mark.parametrize(("task", "classes"), [("binary", 2), ("nominal", 6), ("ordinal", 6)])
def test_a_step_without_a_bag_changes_no_metric(task, classes):
    probabilities, labels = _bags(classes)
    metrics = SplitMetrics(task)
    metrics.update(probabilities, labels)
    before = metrics.compute()
    metrics.update(probabilities[:0], labels[:0])
    assert metrics.compute() == before
