import numpy as np
import pytest
import torch

from milpath.data import BagDataModule, SyntheticBags
from milpath.data.loading.augmentation import TileAugmentation
from milpath.data.store.encoded_store import hash_of_weights, open_or_encode
from milpath.models import AttentionMIL
from milpath.runs.build import build_classifier, build_training_data
from milpath.search.composition import compose_training


@pytest.fixture(scope="module")
def network() -> AttentionMIL:
    torch.manual_seed(0)
    encoder = {"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8, "frozen": True}
    return AttentionMIL(encoder=encoder).train()


@pytest.fixture
def datamodule(tmp_path) -> BagDataModule:
    source = SyntheticBags(num_slides=12, num_tiles=3, tile_size=32)
    datamodule = BagDataModule(source, target="malignant", num_folds=3, stores_dir=str(tmp_path))
    datamodule.setup()
    return datamodule


def test_a_network_says_the_same_of_tiles_and_of_their_kept_features(network, datamodule):
    tiles = next(iter(datamodule.dataloader("test"))).to("cpu")
    datamodule.encode_with(network.tile_encoder)
    features = next(iter(datamodule.dataloader("test"))).to("cpu")
    assert features.tiles.shape == (*tiles.tiles.shape[:2], 8)
    network.eval()
    torch.testing.assert_close(
        network(features.tiles, features.mask), network(tiles.tiles, tiles.mask), atol=1e-6, rtol=0
    )
    assert features.bag_ids == tiles.bag_ids
    torch.testing.assert_close(features.tile_labels, tiles.tile_labels)


def test_features_are_computed_once_and_anew_for_other_weights(network, datamodule, tmp_path):
    store = datamodule.store
    first = open_or_encode(store, network.tile_encoder, tmp_path)
    before = (first.path / "tiles.npy").stat().st_mtime_ns
    assert open_or_encode(store, network.tile_encoder, tmp_path).path == first.path
    assert (first.path / "tiles.npy").stat().st_mtime_ns == before
    other = AttentionMIL(encoder=network.encoder)
    assert hash_of_weights(other.tile_encoder) != hash_of_weights(network.tile_encoder)
    second = open_or_encode(store, other.tile_encoder, tmp_path)
    assert second.path != first.path
    assert not np.allclose(second.tiles, first.tiles)


def test_an_encoder_that_learns_is_refused(datamodule, tmp_path):
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 32})
    with pytest.raises(ValueError, match="set model.encoder.frozen=true"):
        open_or_encode(datamodule.store, network.tile_encoder, tmp_path)


def test_augmented_tiles_are_not_encoded_once(network, tmp_path):
    source = SyntheticBags(num_slides=12, num_tiles=3, tile_size=32)
    datamodule = BagDataModule(source, target="malignant", num_folds=3, stores_dir=str(tmp_path), augmentation="flips")
    datamodule.setup()
    with pytest.raises(ValueError, match="changes tiles before they are encoded"):
        datamodule.encode_with(network.tile_encoder)


def test_training_takes_kept_features_of_augmented_tiles_and_evaluation_those_of_the_tiles_themselves(
    network, tmp_path
):
    source = SyntheticBags(num_slides=12, num_tiles=3, tile_size=32)
    options = {"target": "malignant", "num_folds": 3, "stores_dir": str(tmp_path), "batch_size": 4}
    datamodule = BagDataModule(source, augmentation="full", augmented_copies=2, **options)
    datamodule.setup()
    datamodule.encode_with(network.tile_encoder)
    own = {bag_id: row for row, bag_id in enumerate(datamodule.store.bags["bag_id"])}
    loader, seen = datamodule.train_dataloader(), {}
    for epoch in range(12):
        loader.sampler.set_epoch(epoch)
        drawn = [batch.to("cpu") for batch in loader]
        for batch in drawn:
            for bag_id, tiles in zip(batch.bag_ids, batch.tiles, strict=True):
                seen.setdefault(bag_id, {})[tuple(tiles.flatten().tolist())] = tiles
    again = [batch.to("cpu") for batch in loader]
    assert all(torch.equal(one.tiles, other.tiles) for one, other in zip(drawn, again, strict=True))
    # The features of the tiles and of two augmented copies of them, which differ but are of the same tiles.
    assert [len(versions) for versions in seen.values()] == [3] * len(seen)
    for bag_id, versions in seen.items():
        plain = torch.from_numpy(np.array(datamodule.store.read(own[bag_id])))
        assert sum(torch.equal(plain, version) for version in versions.values()) == 1
    tested = next(iter(datamodule.dataloader("test"))).to("cpu")
    for bag_id, tiles in zip(tested.bag_ids, tested.tiles, strict=True):
        assert torch.equal(tiles, torch.from_numpy(np.array(datamodule.store.read(own[bag_id]))))


def test_a_kept_copy_is_the_encoding_of_augmented_tiles(network, datamodule, tmp_path):
    flips = TileAugmentation("flips")
    copy = open_or_encode(datamodule.store, network.tile_encoder, tmp_path, augmented=(flips, 0))
    tiles = torch.from_numpy(np.array(datamodule.store.read(0))).movedim(-1, 1).float() / 255
    turned = [tiles, tiles.flip(2), tiles.flip(3), tiles.flip(2, 3)]
    with torch.inference_mode():
        possible = torch.stack([network.tile_encoder.eval()(each[None])[0] for each in turned])
    error = (torch.from_numpy(np.array(copy.read(0))) - possible).abs().amax(-1)
    assert (error.amin(0) < 1e-5).all()
    assert len({int(best) for best in error.argmin(0)}) > 1


def test_copies_without_an_augmentation_are_refused(tmp_path):
    source = SyntheticBags(num_slides=12, num_tiles=3, tile_size=32)
    with pytest.raises(ValueError, match=r"^data.augmented_copies=2 needs an augmentation; set data.augmentation=full"):
        BagDataModule(source, target="malignant", augmented_copies=2, stores_dir=str(tmp_path))


def test_copies_for_an_encoder_that_learns_are_refused_rather_than_ignored(tmp_path):
    words = ["data.num_slides=12", "data.num_tiles=2", "data.tile_size=32", "data.augmentation=flips"]
    config = compose_training([*words, "data.augmented_copies=2", f"paths.stores_dir={tmp_path}", "run_name=run"])
    datamodule = build_training_data(config)
    datamodule.setup()
    with pytest.raises(ValueError, match=r"set model.encoder.frozen=true, or data.augmented_copies=0$"):
        build_classifier(config, datamodule)


def test_features_are_computed_anew_for_other_tiles_and_other_preprocessing(network, datamodule, tmp_path):
    first = open_or_encode(datamodule.store, network.tile_encoder, tmp_path)
    source = SyntheticBags(num_slides=14, num_tiles=3, tile_size=32)
    other = BagDataModule(source, target="malignant", num_folds=3, stores_dir=str(tmp_path))
    other.setup()
    assert open_or_encode(other.store, network.tile_encoder, tmp_path).path != first.path
    brighter = AttentionMIL(encoder={**network.encoder, "mean": [0.5, 0.5, 0.5]})
    weights = {name: value for name, value in network.state_dict().items() if "normalise" not in name}
    brighter.load_state_dict(weights, strict=False)
    assert open_or_encode(datamodule.store, brighter.tile_encoder, tmp_path).path != first.path


def test_features_are_computed_anew_for_other_layers_with_the_same_weights(datamodule, tmp_path):
    layer = torch.nn.Conv2d(3, 4, 3)
    found = []
    for function in (torch.nn.ReLU(), torch.nn.Tanh()):
        layers = torch.nn.Sequential(layer, function, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        network = AttentionMIL(encoder={"name": layers, "frozen": True})
        found.append(open_or_encode(datamodule.store, network.tile_encoder, tmp_path))
    assert found[0].path != found[1].path
    assert not np.array_equal(found[0].tiles, found[1].tiles)
