"""Batch normalisation of a frozen network as part of its convolutions: the same features, with fewer passes over memory."""

import copy
import logging

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_log = logging.getLogger(__name__)
# Far above what reordering sums changes (1e-6), far below what another network would give.
_SAME = 1e-4


def fold_batch_norms(network: nn.Module, tiles: Tensor) -> nn.Module:
    """Return a copy of a network in which each batch normalisation after a convolution is part of it.

    In evaluation mode `y = (W x + b - m) / sqrt(v + eps) * g + s` is a convolution with the weights `W g / sqrt(v + eps)`.
    Which normalisation follows which convolution is observed, not assumed from names, and the copy is compared with the
    network: if its output differs, the network itself is returned, as it is if nothing can be folded.

    Args:
        network: In evaluation mode, in float32.
        tiles: Input to observe it with, `(tiles, 3, height, width)` in [0, 1].

    Returns:
        The copy; features differ by rounding, about 1e-6 of their size.
    """
    if network.training or not any(isinstance(part, nn.BatchNorm2d) for part in network.modules()):
        return network
    with torch.inference_mode():
        pairs, expected = _observed(network, tiles)
        if not pairs:
            return network
        folded = copy.deepcopy(network)
        for convolution, norm in pairs:
            found, old = folded.get_submodule(convolution), folded.get_submodule(norm)
            assert isinstance(found, nn.Conv2d)
            assert isinstance(old, nn.BatchNorm2d)
            _replace(folded, convolution, fuse_conv_bn_eval(found, old))
            # timm's normalisation includes dropout and activation.
            _replace(folded, norm, nn.Sequential(*(part for part in old.children())))
        difference = (folded(tiles) - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
    if not bool(difference < _SAME):
        _log.info("batch normalisation stays as it is: as part of convolutions features change by %.2g", difference)
        return network
    return folded.requires_grad_(False)


def _observed(network: nn.Module, tiles: Tensor) -> tuple[list[tuple[str, str]], Tensor]:
    """Return the names of convolutions and the normalisation of the output of each, and the output of the network."""
    # The tensors are kept, so that none gets the identity of one that was freed.
    outputs: dict[int, tuple[str, Tensor]] = {}
    calls: dict[str, int] = {}
    pairs: dict[str, str] = {}

    def after_convolution(name: str, output: Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1
        outputs[id(output)] = name, output

    def before_norm(name: str, tensor: Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1
        if (found := outputs.get(id(tensor))) is not None:
            pairs[found[0]] = name

    handles = []
    for name, part in network.named_modules():
        if isinstance(part, nn.Conv2d):
            handles.append(part.register_forward_hook(lambda _, __, output, name=name: after_convolution(name, output)))
        elif isinstance(part, nn.BatchNorm2d) and part.track_running_stats and part.affine:
            handles.append(part.register_forward_pre_hook(lambda _, inputs, name=name: before_norm(name, inputs[0])))
    try:
        expected: Tensor = network(tiles)
    finally:
        for handle in handles:
            handle.remove()
    return [pair for pair in pairs.items() if calls[pair[0]] == calls[pair[1]] == 1], expected


def _replace(network: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, part)
