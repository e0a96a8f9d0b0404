"""Cards of encoders: plain values, bounded, the same in every place where they are kept."""

import dataclasses
import json

import pytest

from milpath.models.encoders import EncoderCard, encoder_card, encoder_names
from milpath.models.encoders.architectures import build_architecture


@pytest.mark.parametrize("name", encoder_names())
def test_a_card_survives_a_file(name):
    card = encoder_card(name)
    assert card.name == name
    assert EncoderCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    assert name in card.describe()
    assert f"{card.embedding_dim:,} features" in card.describe()


@pytest.mark.parametrize("name", encoder_names())
def test_a_card_says_where_its_weights_and_its_paper_are(name):
    card = encoder_card(name)
    assert card.access.startswith("https://")
    assert card.paper.startswith("https://")
    assert card.licence
    if card.repository is not None:
        assert card.access == f"https://huggingface.co/{card.repository}"
        assert card.weights_files
    assert card.weights_sha256 is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile_size": "224"}, "tile_size of an encoder cannot be '224'"),
        ({"tile_size": True}, "tile_size of an encoder cannot be True"),
        ({"tile_size": 10**9}, r"tile_size of the encoder must be in \[1, 4,096\]"),
        ({"embedding_dim": 0}, r"embedding_dim of the encoder must be in \[1, 65,536\]"),
        ({"microns_per_pixel": -1.0}, r"microns_per_pixel of the encoder must be in \(0, 100\]"),
        ({"microns_per_pixel": float("nan")}, "must be a finite number"),
        ({"mean": [0.5, 0.5]}, "three numbers each"),
        ({"std": [0.5, 0.5, 0.0]}, "std of the encoder must be greater than 0"),
        ({"output": "eval"}, "output of the encoder must be one of class_token"),
        ({"library": "hf-hub"}, "library of the encoder must be one of timm"),
        ({"layout": "pickle"}, "layout of the encoder must be one of timm"),
        ({"num_parameters": -1}, "num_parameters of the encoder must be at most"),
        ({"gated": "no"}, "gated of an encoder cannot be 'no'"),
        ({"name": "../../etc/passwd"}, "name of the encoder must be letters"),
        ({"repository": "file:///etc"}, "repository of the encoder must be letters"),
        ({"licence": "x" * 501}, "licence of an encoder cannot be"),
        ({"arguments": {"depth": 10**6}}, r"arguments.depth of the encoder cannot be 1000000"),
        ({"arguments": {"checkpoint_path": "/etc/passwd"}}, "arguments of the encoder cannot have 'checkpoint_path'"),
        (
            {"arguments": {"pretrained_cfg": {"url": "http://x"}}},
            "arguments of the encoder cannot have 'pretrained_cfg'",
        ),
        ({"arguments": {"mlp_layer": "os.system"}}, "arguments.mlp_layer of the encoder cannot be 'os.system'"),
        ({"arguments": {"_target_": "os.system"}}, "keys that begin with an underscore can name code"),
        ({"colour": "red"}, "unknown field 'colour'"),
    ],
)
def test_a_card_of_somebody_else_is_checked(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        EncoderCard.from_dict(encoder_card("uni").to_dict() | changes)
    assert "\n" not in str(caught.value)


def test_a_card_that_lacks_a_field_or_is_none_says_so():
    content = encoder_card("uni").to_dict()
    del content["std"]
    with pytest.raises(ValueError, match="the card of the encoder lacks std"):
        EncoderCard.from_dict(content)
    with pytest.raises(ValueError, match=r"must be a mapping, not \[\]"):
        EncoderCard.from_dict([])


def test_an_unknown_name_suggests_the_closest():
    with pytest.raises(ValueError, match="unknown encoder 'uni2h'; did you mean uni2_h"):
        encoder_card("uni2h")


@pytest.mark.parametrize(
    "architecture", ["hf-hub:evil/model", "local-dir:/tmp/model", "vit_large_patch16_224.dino", "no_such"]
)
def test_a_card_names_an_architecture_of_timm_and_no_place_to_load_from(architecture):
    pytest.importorskip("timm", reason="comes with the extra backbones")
    card = dataclasses.replace(encoder_card("uni"), architecture=architecture)
    with pytest.raises(ValueError, match=r"timm .* has no architecture"):
        build_architecture(card)


def test_the_width_of_the_output_must_fit_the_card():
    pytest.importorskip("timm", reason="comes with the extra backbones")
    wrong = dataclasses.replace(encoder_card("lunit_vits16"), output="class_and_mean")
    with pytest.raises(ValueError, match="gives 768 features with output=class_and_mean, its card says 384"):
        build_architecture(wrong)
    pooled = dataclasses.replace(encoder_card("efficientnet_lite0"), output="class_token")
    with pytest.raises(ValueError, match="has no class token; its output must be pooled"):
        build_architecture(pooled)
