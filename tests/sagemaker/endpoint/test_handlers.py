import io
import json

import numpy as np
import pytest
import torch

from milpath.models import CLAMMB, AttentionMIL, load_card, load_network, save_network
from milpath.sagemaker import inference
from milpath.sagemaker.endpoint import handlers as serve
from milpath.sagemaker.endpoint.handlers import Endpoint
from milpath.sagemaker.endpoint.request_limits import BadRequestError
from milpath.targets import target_named
from tests.sagemaker.request_bodies import TILE_SIZE, npy, png, zipped

NPY = "application/x-npy"


@pytest.fixture
def expected(network, tiles):
    """What the network says of the bag, computed without the endpoint: the card's temperature is 2."""
    with torch.no_grad():
        output = network(torch.from_numpy(tiles).permute(0, 3, 1, 2)[None] / 255)
    return target_named("binary").probabilities(output.logits, 2.0)[0].numpy(), output.attention[0].numpy()


def test_the_answer_is_what_the_network_says(endpoint, tiles, expected):
    body, kind = endpoint.answer(npy(tiles), NPY)
    assert kind == "application/json"
    content = json.loads(body)
    assert content["class_names"] == ["benign", "malignant"]
    (prediction,) = content["predictions"]
    assert list(prediction["probabilities"].values()) == pytest.approx(expected[0], abs=1e-6)
    assert prediction["attention"] == pytest.approx(expected[1], abs=1e-6)
    assert prediction["threshold"] == 0.4
    assert prediction["label"] == ("malignant" if expected[0][1] >= 0.4 else "benign")
    assert prediction["deferred"] == bool(expected[0].max() < 0.6)


def test_an_npz_holds_the_same_numbers(endpoint, tiles):
    bags = npy(np.stack([tiles, tiles[::-1]]))
    body, kind = endpoint.answer(bags, NPY, "application/x-npz")
    assert kind == "application/x-npz"
    arrays = np.load(io.BytesIO(body), allow_pickle=False)
    predictions = json.loads(endpoint.answer(bags, NPY)[0])["predictions"]
    for row, prediction in enumerate(predictions):
        assert arrays["probabilities"][row] == pytest.approx(list(prediction["probabilities"].values()))
        assert arrays["attention"][row] == pytest.approx(prediction["attention"])
        assert arrays["class_names"][arrays["label"][row]] == prediction["label"]
        assert arrays["deferred"][row] == prediction["deferred"]
    assert arrays["num_tiles"].tolist() == [5, 5]
    assert arrays["threshold"] == 0.4


def test_bags_of_different_lengths_are_padded_in_an_npz_only(endpoint, tiles):
    content = {"bags": [{"npy": base64_of(tiles)}, {"npy": base64_of(tiles[:2])}]}
    body, _ = endpoint.answer(json.dumps(content).encode(), "application/json", "application/x-npz")
    arrays = np.load(io.BytesIO(body), allow_pickle=False)
    assert arrays["num_tiles"].tolist() == [5, 2]
    np.testing.assert_allclose(arrays["attention"].sum(1), 1, atol=1e-6)
    assert (arrays["attention"][1, 2:] == 0).all()


def base64_of(array):
    import base64

    return base64.b64encode(npy(array)).decode()


def test_tiles_are_named_as_they_came(endpoint, tiles):
    files = {f"slide_{number}.png": png(tile) for number, tile in enumerate(tiles)}
    prediction = json.loads(endpoint.answer(zipped(files), "application/zip")[0])["predictions"][0]
    assert prediction["tiles"] == list(files)
    assert len(prediction["attention"]) == len(files)


def test_tiles_of_a_slide_image_come_with_their_place(endpoint):
    image = np.random.default_rng(0).integers(0, 256, (70, 64, 3), dtype=np.uint8)
    prediction = json.loads(endpoint.answer(png(image), "image/png")[0])["predictions"][0]
    assert len(prediction["corners"]) == len(prediction["attention"]) == 4
    assert "tiles" not in prediction


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "text/html, application/*;q=0.8"])
def test_json_is_the_answer_unless_asked_otherwise(endpoint, tiles, accept):
    assert endpoint.answer(npy(tiles), NPY, accept)[1] == "application/json"


def test_an_answer_that_cannot_be_written_is_refused(endpoint, tiles):
    with pytest.raises(BadRequestError, match="not 'text/html'") as caught:
        endpoint.answer(npy(tiles), NPY, "text/html")
    assert caught.value.status == 406


def test_a_long_bag_needs_no_more_memory_than_a_short_one(endpoint, network, tiles):
    long = np.concatenate([tiles] * 30)
    calls = []
    hook = endpoint.network.tile_encoder.network.register_forward_pre_hook(
        lambda _, inputs: calls.append(len(inputs[0]))
    )
    body, _ = endpoint.answer(npy(long), NPY)
    hook.remove()
    assert calls == [64, 64, 22]
    with torch.no_grad():
        output = network(torch.from_numpy(long).permute(0, 3, 1, 2)[None] / 255)
    attention = json.loads(body)["predictions"][0]["attention"]
    assert attention == pytest.approx(output.attention[0].tolist(), abs=1e-6)


def test_a_decision_that_was_chosen_on_patients_is_said_of_single_bags(network, network_path, tiles, tmp_path):
    save_network(network, tmp_path / "network.pt", load_card(network_path), data={"aggregate": "mean"})
    body = Endpoint(tmp_path / "network.pt").answer(npy(tiles), NPY)[0]
    said = "chosen on patients with aggregate=mean and are used for single bags: they may not fit these"
    assert json.loads(body)["note"].endswith(said)


def test_stains_that_were_not_normalised_are_said(tiles, tmp_path):
    target = {"mean": [70.0, 20.0, -10.0], "std": [12.0, 9.0, 6.0]}
    encoder = {"name": "tile_cnn", "tile_size": TILE_SIZE, "embedding_dim": 8, "stain_normalisation": "reinhard"}
    torch.manual_seed(0)
    network = AttentionMIL(encoder=encoder | {"stain_target": target}).eval()
    save_network(network, tmp_path / "n.pt", class_names=("benign", "malignant"), tiling={"tile_size": TILE_SIZE})
    endpoint = Endpoint(tmp_path / "n.pt")
    white = np.full_like(tiles, 255)
    said = []
    for bag in (tiles, white, tiles):
        said += [json.loads(endpoint.answer(npy(bag), NPY)[0])["predictions"][0]["stains_normalised"]]
    assert said == [True, False, True]
    arrays = np.load(io.BytesIO(endpoint.answer(npy(np.stack([white, tiles])), NPY, "application/x-npz")[0]))
    assert arrays["stains_normalised"].tolist() == [False, True]


def test_three_classes_have_no_threshold(feature_path):
    features = np.random.default_rng(0).normal(size=(4, 5))
    endpoint = Endpoint(feature_path)
    prediction = json.loads(endpoint.answer(npy(features), NPY)[0])["predictions"][0]
    with torch.no_grad():
        logits = load_network(feature_path)(torch.from_numpy(features).float()[None]).logits
    assert list(prediction["probabilities"].values()) == pytest.approx(logits.softmax(1)[0].tolist(), abs=1e-6)
    assert prediction["threshold"] is None
    assert prediction["label"] == "abc"[int(logits.argmax())]
    assert prediction["deferred"] is False


def test_features_are_rounded_as_those_of_the_training(feature_path, tmp_path):
    features = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    save_network(load_network(feature_path), tmp_path / "n.pt", load_card(feature_path), data={"dtype": "float16"})
    rounded, half = Endpoint(tmp_path / "n.pt"), features.astype(np.float16)
    assert rounded.answer(npy(features), NPY) == Endpoint(feature_path).answer(npy(half), NPY)
    assert rounded.answer(npy(features), NPY) != Endpoint(feature_path).answer(npy(features), NPY)


def test_an_answer_that_is_no_number_is_refused(feature_path):
    endpoint = Endpoint(feature_path)
    for parameter in endpoint.network.parameters():
        parameter.data.mul_(1e3)
    with pytest.raises(BadRequestError, match="no finite output"):
        endpoint.answer(npy(np.full((3, 5), 3e38, np.float32)), NPY)


def test_the_four_functions_of_the_toolkit_do_the_same(network_path, endpoint, tiles):
    loaded = serve.model_fn(str(network_path.parent))
    data = serve.input_fn(npy(tiles), NPY)
    assert serve.output_fn(serve.predict_fn(data, loaded), "*/*") == endpoint.answer(npy(tiles), NPY)
    text = json.dumps({"npy": base64_of(tiles)})
    data = serve.input_fn(text, "application/json")
    assert serve.output_fn(serve.predict_fn(data, loaded), "*/*") == endpoint.answer(npy(tiles), NPY)


def test_a_folder_without_a_network_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"network.pt is missing; write model.tar.gz with: python -m"):
        inference.model_fn(str(tmp_path))


def test_a_network_with_attention_per_class_answers_it_in_json_and_npz(tiles, tmp_path):
    torch.manual_seed(0)
    size = tiles.shape[1]
    network = CLAMMB(encoder={"name": "tile_cnn", "tile_size": size, "embedding_dim": 8}, hidden_dim=8).eval()
    save_network(network, tmp_path / "network.pt", class_names=("benign", "malignant"), tiling={"tile_size": size})
    endpoint = Endpoint(tmp_path / "network.pt")
    with torch.no_grad():
        output = network(torch.from_numpy(tiles).permute(0, 3, 1, 2)[None] / 255)
    (prediction,) = json.loads(endpoint.answer(npy(tiles), NPY)[0])["predictions"]
    arrays = np.load(io.BytesIO(endpoint.answer(npy(tiles), NPY, "application/x-npz")[0]), allow_pickle=False)
    for number, name in enumerate(("attention_benign", "attention_malignant")):
        assert prediction[name] == pytest.approx(output.class_attention[0, number].tolist(), abs=1e-6)
        assert arrays[name][0].tolist() == pytest.approx(prediction[name])
