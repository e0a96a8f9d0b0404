"""Batch normalisation as part of convolutions: the same features, also where layers are used in other ways."""

import pytest
import torch
from torch import nn

from milpath.encoding.batch_encoder import BatchEncoder
from milpath.models.encoders import open_encoder
from milpath.models.folded_norms import fold_batch_norms


def normalisations(network: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())


class Odd(nn.Module):
    """A convolution that is also used without its normalisation, one that is used twice, and a lone normalisation."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.conv, self.norm, self.other = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        for norm in (self.norm, self.other):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, tiles):
        if self.kind == "twice":
            return self.norm(self.conv(self.conv(tiles))).mean((2, 3))
        if self.kind == "lone":
            return self.norm(self.other(tiles)).mean((2, 3))
        seen = self.conv(tiles)
        return (self.norm(seen) + (seen if self.kind == "also" else 0)).mean((2, 3))


@pytest.mark.parametrize(("kind", "left"), [("plain", 1), ("also", 2), ("twice", 2), ("lone", 2)])
def test_only_what_gives_the_same_features_is_folded(kind, left):
    network = Odd(kind).eval()
    tiles = torch.rand(4, 3, 16, 16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold_batch_norms(network, tiles)
    assert normalisations(folded) == left
    torch.testing.assert_close(folded(tiles), network(tiles), rtol=1e-5, atol=1e-5)
    assert normalisations(network) == 2  # itself unchanged
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_network_in_training_is_returned_as_it_is():
    network = Odd("plain")
    assert fold_batch_norms(network, torch.rand(2, 3, 16, 16)) is network


def test_an_extraction_folds_a_pretrained_encoder_and_its_features_stay_the_same():
    pytest.importorskip("timm")
    encoder = open_encoder("efficientnet_lite0")
    digest = encoder.card.weights_sha256
    tiles = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    batches = BatchEncoder(encoder, 64, batch_size=4, dtype="float32")
    assert normalisations(batches._encoder) == 0 < normalisations(encoder)
    assert batches._encoder.card.weights_sha256 == digest
    batches.buffer[:] = tiles.numpy()
    batches.submit(4)
    expected = encoder(tiles.permute(0, 3, 1, 2).float() / 255)
    difference = (torch.from_numpy(batches.finish()) - expected).abs().max() / expected.abs().max()
    assert difference < 1e-5
    # The first real batch is still checked.
    with pytest.raises(ValueError, match="are all the same number"):
        collapsed = BatchEncoder(silenced(open_encoder("efficientnet_lite0")), 64, batch_size=4)
        collapsed.buffer[:] = tiles.numpy()
        collapsed.submit(4)


def silenced(encoder):
    """Weights of another network: all features are those of a bias."""
    for name, value in encoder.network.named_parameters():
        if name.endswith("conv_head.weight"):
            value.zero_()
    return encoder
