import pytest
import torch

from milpath.targets import target_named


def test_binary_loss_is_the_negative_log_likelihood():
    logits = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    p = torch.sigmoid(logits.squeeze(1))
    expected = torch.stack([-p[0].log(), -(1 - p[1]).log()])
    torch.testing.assert_close(target_named("binary").losses(logits, torch.tensor([1, 0])), expected)


def test_binary_loss_stays_finite_where_sigmoid_and_log_do_not():
    assert target_named("binary").losses(torch.tensor([[-200.0]]), torch.tensor([1])).item() == pytest.approx(200.0)


def test_ordinal_loss_sums_the_binary_losses_of_reaching_each_class():
    logits = torch.tensor([[1.0, 0.0, -2.0]])
    expected = sum(
        target_named("binary").losses(logits[:, k : k + 1], torch.tensor([int(reached)]))
        for k, reached in enumerate([1, 1, 0])
    )
    torch.testing.assert_close(target_named("ordinal").losses(logits, torch.tensor([2])), expected)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="not one of binary"):
        target_named("counting").losses(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
