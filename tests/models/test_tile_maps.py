import pytest
import torch

from milpath.models import CLAMMB, AdditiveMIL, AttentionMIL, DetailedMILOutput, MILOutput
from milpath.models.finite import finite_bags
from milpath.models.tile_maps import tile_maps

FEATURES = {"name": "linear", "num_features": 5, "hidden_dims": [6]}
LOGITS, ATTENTION = torch.zeros(2, 1), torch.full((2, 4), 0.25)


@pytest.mark.parametrize(
    ("rows", "classes", "names"),
    [
        (3, ["a", "b", "c"], ["a", "b", "c"]),
        (2, ["benign", "malignant"], ["benign", "malignant"]),
        (1, ["benign", "malignant"], ["malignant"]),
        (2, ["low", "mid", "high"], ["above low", "above mid"]),
    ],
)
def test_each_row_is_named_after_its_class_or_threshold(rows, classes, names):
    values = torch.rand(2, rows, 4)
    maps = tile_maps(DetailedMILOutput(LOGITS, ATTENTION, class_attention=values, contributions=-values), classes)
    assert list(maps) == [f"attention_{name}" for name in names] + [f"contribution_{name}" for name in names]
    for number, name in enumerate(names):
        assert torch.equal(maps[f"attention_{name}"], values[:, number])
        assert torch.equal(maps[f"contribution_{name}"], -values[:, number])


def test_rows_that_fit_no_classes_are_refused():
    output = DetailedMILOutput(LOGITS, ATTENTION, class_attention=torch.rand(2, 5, 4))
    with pytest.raises(ValueError, match="5 maps of its tiles for 3 classes"):
        tile_maps(output, ["a", "b", "c"])


def test_a_network_with_one_weight_per_tile_has_no_maps():
    assert tile_maps(MILOutput(LOGITS, ATTENTION), ["a", "b"]) == {}
    assert tile_maps(AttentionMIL(encoder=FEATURES)(torch.rand(2, 4, 5)), ["a", "b"]) == {}


def test_the_maps_of_two_classes_come_with_one_logit():
    bags = torch.rand(2, 4, 5)
    names = ["benign", "malignant"]
    assert list(tile_maps(CLAMMB(encoder=FEATURES)(bags), names)) == ["attention_benign", "attention_malignant"]
    output = AdditiveMIL(encoder=FEATURES)(bags)
    (amounts,) = tile_maps(output, names).values()
    torch.testing.assert_close(amounts.sum(1), output.logits[:, 0])


@pytest.mark.parametrize("which", ["class_attention", "contributions"])
def test_a_map_that_is_not_finite_makes_its_bag_not_finite(which):
    values = torch.rand(2, 3, 4)
    values[1, 2, 0] = torch.nan
    assert finite_bags(DetailedMILOutput(LOGITS, ATTENTION, **{which: values})).tolist() == [True, False]
