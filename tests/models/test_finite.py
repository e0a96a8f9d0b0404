import numpy as np
import pytest
import torch

from milpath.models import AttentionMIL, load_network, save_network
from milpath.models.encoders.backbone import read_weights
from milpath.models.finite import describe_non_finite_weights, finite_bags, require_finite_answers
from milpath.models.output import MILOutput

BAD = [float("nan"), float("inf"), float("-inf")]


def network() -> AttentionMIL:
    torch.manual_seed(0)
    return AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8}, attention_dim=4)


@pytest.mark.parametrize("value", BAD)
def test_any_single_weight_that_is_not_finite_keeps_a_checkpoint_from_loading(value, tmp_path):
    good = network().state_dict()
    for number, (name, weight) in enumerate(good.items()):
        if not weight.is_floating_point():
            continue
        changed = network()
        target = changed.state_dict()[name].view(-1)
        target[number % target.numel()] = value
        save_network(changed, tmp_path / "network.pt")
        with pytest.raises(
            ValueError, match=rf"network.pt: weight '{name}' has {value} at \[.*1 of {target.numel():,}"
        ):
            load_network(tmp_path / "network.pt")


def test_whole_weights_and_whole_numbers_pass():
    state = network().state_dict() | {"steps": torch.tensor(3), "largest": torch.tensor(torch.finfo(torch.float32).max)}
    assert describe_non_finite_weights(state) is None


@pytest.mark.parametrize("value", BAD)
def test_a_file_of_encoder_weights_is_searched_too(value, tmp_path):
    torch.save({"layer.weight": torch.tensor([[1.0, value]])}, tmp_path / "encoder.pt")
    with pytest.raises(ValueError, match=rf"encoder.pt: weight 'layer.weight' has {value} at \[0, 1\]"):
        read_weights(tmp_path / "encoder.pt")


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("where", ["logits", "attention"])
def test_the_bag_without_a_finite_answer_is_named_and_the_weight_that_is_to_blame(value, where):
    output = MILOutput(torch.zeros(3, 2), torch.full((3, 4), 0.25))
    getattr(output, where)[1, 1] = value
    finite = finite_bags(output).tolist()
    assert finite == [True, False, True]
    broken = network()
    with pytest.raises(ValueError, match="for bag 'b' is not finite: its tiles are finite, but so far"):
        require_finite_answers(finite, ["a", "b", "c"], broken)
    broken.classification_layer.bias.data[0] = np.nan
    with pytest.raises(ValueError, match="for bag 'b' is not finite: weight 'classification_layer.bias' has nan at"):
        require_finite_answers(finite, ["a", "b", "c"], broken)


@pytest.mark.parametrize("field", ["threshold", "temperature", "defer_below"])
@pytest.mark.parametrize("value", BAD)
def test_no_card_is_written_with_a_number_that_is_not_finite(field, value, tmp_path):
    with pytest.raises(ValueError, match=f"{field} of the card must be a number"):
        save_network(network(), tmp_path / "network.pt", **{field: value})
    assert not list(tmp_path.iterdir())
