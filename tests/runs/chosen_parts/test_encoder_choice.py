import pytest

from milpath.runs.chosen_parts.encoder_choice import let_encoder_follow, refuse_unfit_encoder
from milpath.search.composition import compose_training

FEATURES = ["data=features", "data.path=feats", "data.labels=labels.csv"]
PLAIN = {"name": "linear", "num_features": None, "hidden_dims": [512], "dropout": 0.0}


def encoder_for(words, tile_shape):
    config = compose_training(words)
    let_encoder_follow(config.model, tile_shape)
    return config.model.encoder


@pytest.mark.parametrize("model", ["attention_mil", "dsmil", "trans_mil"])
def test_features_take_the_linear_encoder_by_themselves(model):
    encoder = encoder_for([*FEATURES, f"model={model}"], (16,))
    assert PLAIN.items() <= dict(encoder).items()
    # The run is the one that names the encoder: either continues the other.
    assert encoder == encoder_for([*FEATURES, f"model={model}", "model/encoder=linear"], (16,))


def test_features_in_a_store_or_a_classic_set_do_so_too():
    assert encoder_for(["data=bag_store", "data.path=x"], (16,)).name == "linear"
    assert encoder_for(["data=musk1"], (166,)).name == "linear"


def test_a_chosen_encoder_is_kept():
    words = [*FEATURES, "model/encoder=linear", "model.encoder.hidden_dims=[8,4]"]
    assert encoder_for(words, (16,)).hidden_dims == [8, 4]
    assert encoder_for(["data=synthetic"], (32, 32, 3)).name == "tile_cnn"


def test_what_every_encoder_has_is_kept():
    encoder = encoder_for([*FEATURES, "model.encoder.tile_micro_batch=64", "+model.encoder.hidden_dims=[8]"], (16,))
    assert (encoder.name, encoder.tile_micro_batch, encoder.hidden_dims) == ("linear", 64, [8])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model/encoder=resnet18"], "the encoder resnet18 takes tiles; add model/encoder=linear"),
        (["model.encoder.dropout=0.1"], "model.encoder.dropout=0.1 is an option of tile_cnn, which takes tiles; add"),
        (["model/encoder=tile_cnn_less_dropout"], "model.encoder.dropout=0.25 is an option of tile_cnn"),
    ],
)
def test_an_encoder_of_tiles_is_refused_before_data_are_read(words, message):
    with pytest.raises(ValueError, match=f"^the data are features, but .*{message}"):
        refuse_unfit_encoder(compose_training([*FEATURES, *words]))
    with pytest.raises(ValueError, match=message):
        encoder_for([*FEATURES, *words], (16,))


def test_a_feature_encoder_is_refused_for_tiles():
    with pytest.raises(
        ValueError, match="^the data are tiles, but the encoder linear takes features; leave out model/enc"
    ):
        encoder_for(["data=synthetic", "model/encoder=linear"], (32, 32, 3))


def test_data_that_fit_or_are_not_known_pass():
    for words in ([], FEATURES, ["data=bag_store", "data.path=x", "model/encoder=resnet18"]):
        refuse_unfit_encoder(compose_training(words))
