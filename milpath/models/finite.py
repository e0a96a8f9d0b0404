"""Checks for NaN and infinity in the weights and outputs of a network."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from milpath.models.output import DetailedMILOutput, MILOutput


def require_finite_weights(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights and buffers that contain NaN or infinity.

    Args:
        weights: Name to tensor, as in a state dict.

    Raises:
        ValueError: With the first such tensor, its first such value and their number.
    """
    if (found := describe_non_finite_weights(weights)) is not None:
        raise ValueError(f"{found}; the training that wrote them diverged, or the file was changed: train again")


def describe_non_finite_weights(weights: Mapping[str, Tensor]) -> str | None:
    """Return a description of the first weight that is not finite, `None` if all are.

    Example:
        >>> describe_non_finite_weights({"bias": torch.tensor([0.0, float("nan")])})
        "weight 'bias' has nan at [1] (1 of 2 values are not finite)"
    """
    for name, value in weights.items():
        if not value.is_floating_point() or bool((finite := torch.isfinite(value)).all()):
            continue
        place = (~finite).nonzero()[0].tolist()
        number, count = value[tuple(place)].item(), int((~finite).sum())
        return f"weight {name!r} has {number} at {place} ({count:,} of {value.numel():,} values are not finite)"
    return None


def finite_bags(output: MILOutput, answers: Tensor | None = None) -> Tensor:
    """Return whether the output for each bag is finite, bool `(bags,)` on the device of the output.

    Example:
        >>> finite_bags(MILOutput(torch.tensor([[0.0], [float("inf")]]), torch.ones(2, 1)))
        tensor([ True, False])
    """
    finite = torch.isfinite(output.logits).all(1) & torch.isfinite(output.attention).all(1)
    if isinstance(output, DetailedMILOutput):
        for maps in (output.class_attention, output.contributions, output.target_attention):
            if maps is not None:
                finite = finite & torch.isfinite(maps).flatten(1).all(1)
    if answers is not None:
        # A number of a finite logit overflows too; NaN is a median time that is not reached.
        finite = finite & ~torch.isinf(answers).any(1)
    return finite


def require_finite_answers(finite: Iterable[bool], bag_ids: Sequence[str], network: nn.Module) -> None:
    """Refuse outputs that are not finite.

    Args:
        finite: The result of `finite_bags`, on the host.
        bag_ids: Names of the bags.
        network: The network; its weights are searched if an output is not finite.

    Raises:
        ValueError: With the first such bag and the reason.
    """
    for bag_id, fine in zip(bag_ids, finite, strict=True):
        if not fine:
            raise ValueError(explain_non_finite_answer(bag_id, network))


def explain_non_finite_answer(bag_id: str, network: nn.Module) -> str:
    """Return in one line why the output of a network is not finite for a bag whose tiles are finite."""
    weights = describe_non_finite_weights(network.state_dict())
    reason = weights or "its tiles are finite, but so far from the training data that the network overflows"
    return f"the output of the network for bag {bag_id!r} is not finite: {reason}"
