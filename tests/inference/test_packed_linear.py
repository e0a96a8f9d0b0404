import copy

import pytest
import torch
from torch import nn

from milpath.inference.packed_linear import PackedLinear, pack_linears
from milpath.models import AttentionMIL, TransMIL

FEATURES = {"name": "linear", "num_features": 512, "hidden_dims": [256]}


@pytest.mark.parametrize(
    ("network", "bags"),
    [
        (AttentionMIL(gated=True), torch.rand(2, 9, 3, 128, 128)),
        (AttentionMIL(encoder=FEATURES), torch.rand(8, 40, 512)),
        (TransMIL(encoder=FEATURES), torch.rand(3, 40, 512)),
    ],
    ids=["tiles", "features", "transmil"],
)
def test_packed_network_says_the_same(network, bags):
    network.eval()
    packed = pack_linears(copy.deepcopy(network))
    assert any(isinstance(module, PackedLinear) for module in packed.modules())
    with torch.inference_mode():
        expected, got = network(bags), packed(bags)
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.attention, expected.attention, rtol=1e-4, atol=1e-6)
    assert packed.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("bias", [True, False])
def test_other_form_is_used_without_gradients_only_and_where_it_is_worth_it(bias, monkeypatch):
    plain = nn.Linear(512, 256, bias=bias)
    packed = PackedLinear(plain)
    seen = []
    to_mkldnn = torch.Tensor.to_mkldnn
    monkeypatch.setattr(torch.Tensor, "to_mkldnn", lambda self: seen.append(self.shape) or to_mkldnn(self))
    many, few = torch.rand(2, 64, 512), torch.rand(1, 8, 512)
    with torch.no_grad():
        torch.testing.assert_close(packed(many), plain(many))
        assert seen == [many.shape]
        assert torch.equal(packed(few), plain(few))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(packed(many), plain(many))
    packed(many).sum().backward()
    assert plain.weight.grad is not None
    assert seen == [many.shape]


def test_layers_that_are_not_float32_and_derived_ones_stay_as_they_are():
    attention = nn.MultiheadAttention(16, 2)
    network = pack_linears(nn.Sequential(nn.Linear(4, 4).double(), attention))
    assert not any(isinstance(module, PackedLinear) for module in network.modules())
