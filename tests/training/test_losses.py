import pytest
import torch

from milpath.training.losses import bag_losses


def test_binary_loss_is_the_negative_log_likelihood():
    logits = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    p = torch.sigmoid(logits.squeeze(1))
    expected = torch.stack([-p[0].log(), -(1 - p[1]).log()])
    torch.testing.assert_close(bag_losses(logits, torch.tensor([1, 0]), "binary"), expected)


def test_binary_loss_stays_finite_where_sigmoid_and_log_do_not():
    assert bag_losses(torch.tensor([[-200.0]]), torch.tensor([1]), "binary").item() == pytest.approx(200.0)


def test_ordinal_loss_sums_the_binary_losses_of_reaching_each_class():
    logits = torch.tensor([[1.0, 0.0, -2.0]])
    expected = sum(
        bag_losses(logits[:, k : k + 1], torch.tensor([int(reached)]), "binary") for k, reached in enumerate([1, 1, 0])
    )
    torch.testing.assert_close(bag_losses(logits, torch.tensor([2]), "ordinal"), expected)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="none of binary"):
        bag_losses(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64), "regression")
