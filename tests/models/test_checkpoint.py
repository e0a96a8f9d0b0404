import pickle
from dataclasses import replace

import pytest
import torch

from milpath.models import AttentionMIL, load_card, load_network, save_network
from milpath.models.checkpoint import read_checkpoint, update_card, write_checkpoint


@pytest.fixture
def network() -> AttentionMIL:
    return AttentionMIL(encoder={"name": "linear", "num_features": 4, "hidden_dims": [8]}, gated=True)


@pytest.fixture
def path(network, tmp_path):
    save_network(network, tmp_path / "network.pt", class_names=("benign", "malignant"), threshold=0.3)
    return tmp_path / "network.pt"


def test_the_card_comes_back_as_it_was_saved(path):
    card = load_card(path)
    assert card.class_names == ("benign", "malignant")
    assert card.threshold == 0.3
    assert card.network["name"] == "AttentionMIL"
    assert update_card(path, temperature=2.0) == replace(card, temperature=2.0) == load_card(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nothing\.ckpt"):
        load_network(tmp_path / "nothing.ckpt")


def test_a_file_with_code_is_refused_and_the_code_does_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"milpath": Attack(), "state_dict": {}}, tmp_path / "attack.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of milpath"):
        load_network(tmp_path / "attack.ckpt")
    assert not marker.exists()
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ValueError, match="no checkpoint of milpath"):
        load_network(tmp_path / "plain.ckpt")
    assert not marker.exists()


@pytest.mark.parametrize("size", [0, 1, 100, 2000])
def test_a_truncated_file_is_refused(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="no checkpoint of milpath, or it is truncated"):
        load_network(path)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(ValueError, match="no checkpoint of milpath"):
        load_network(tmp_path / "text.ckpt")
    torch.save({"weights": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="it has no card"):
        load_network(tmp_path / "other.pt")


@pytest.mark.parametrize("name", ["os.system", "Nonsense", "MILOutput", "load_network", None])
def test_a_name_that_is_no_network_is_refused(path, name):
    content = read_checkpoint(path)
    content["milpath"]["network"]["name"] = name
    write_checkpoint(content, path)
    with pytest.raises(ValueError, match="unknown network .*; this milpath has"):
        load_network(path)


def test_weights_of_another_network_are_refused(path):
    content = read_checkpoint(path)
    content["milpath"]["network"]["arguments"]["gated"] = False
    write_checkpoint(content, path)
    with pytest.raises(ValueError, match="the weights do not fit the network"):
        load_network(path)


def test_unknown_arguments_are_refused(path):
    content = read_checkpoint(path)
    content["milpath"]["network"]["arguments"]["heads"] = 2
    write_checkpoint(content, path)
    with pytest.raises(ValueError, match="network AttentionMIL: .*heads"):
        load_network(path)


def test_a_format_of_the_future_is_refused(path):
    content = read_checkpoint(path)
    content["milpath"]["format_version"] = 99
    write_checkpoint(content, path)
    with pytest.raises(ValueError, match="the card has format 99, this milpath reads 1; update milpath"):
        load_card(path)


def test_loading_downloads_nothing_and_needs_no_file_of_the_machine_it_was_trained_on(tmp_path, monkeypatch):
    network = AttentionMIL(encoder={"name": "resnet18", "weights_path": None})
    network.encoder = {"name": "resnet18", "pretrained": True, "weights_path": None}
    save_network(network, tmp_path / "network.pt")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    load_network(tmp_path / "network.pt")


def test_nothing_half_written_is_left_behind(network, tmp_path):
    with pytest.raises(FileNotFoundError):
        save_network(network, tmp_path / "missing" / "network.pt")
    with pytest.raises(TypeError):
        save_network(network, tmp_path / "network.pt", colour="red")
    assert list(tmp_path.iterdir()) == []
