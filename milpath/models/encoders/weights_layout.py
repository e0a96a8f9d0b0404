"""Names of tensors in published files of weights, mapped to those of timm's architectures."""

from collections.abc import Callable, Mapping

from torch import Tensor

from milpath.models.encoders.weights_file import in_order

Weights = Mapping[str, Tensor]


def to_own_names(weights: Weights, own: Weights, layout: str, source: str) -> dict[str, Tensor]:
    """Return published weights under the names of the network.

    Args:
        weights: Name to tensor, as published.
        own: The state dict of the network, which may be on the meta device.
        layout: How the published tensors are named, one of `encoder_card.LAYOUTS`.
        source: Where the weights come from, for the error message.

    Raises:
        ValueError: If the file does not have this layout.
    """
    return _LAYOUTS[layout](weights, own, source)


def _as_they_are(weights: Weights, own: Weights, source: str) -> dict[str, Tensor]:
    """Names of timm itself."""
    return dict(weights)


def _in_order(weights: Weights, own: Weights, source: str) -> dict[str, Tensor]:
    """Other names in the same order; the classification layer of efficientnet-lite-pytorch is called `_fc`."""
    if weights.keys() >= own.keys():
        return dict(weights)
    return in_order(own, {name: value for name, value in weights.items() if not name.startswith("_fc.")}, source)


_LAYOUTS: dict[str, Callable[[Weights, Weights, str], dict[str, Tensor]]] = {
    "timm": _as_they_are,
    "in_order": _in_order,
}
