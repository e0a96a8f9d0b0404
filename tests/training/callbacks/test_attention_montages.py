"""Montages of validation bags while a network trains."""

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from milpath.data import SyntheticBags
from milpath.data.datamodule import BagDataModule
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.stored_bags import StoredBags
from milpath.drawing.picture_frame import colours_of
from milpath.models import AttentionMIL
from milpath.search.composition import compose_training
from milpath.train import run
from milpath.training.callbacks.attention_montages import AttentionMontages, choose_bags, in_words
from milpath.training.classifier import MILClassifier
from tests.commands import SMALL_RUN

TAG = "val/attention"
# Lightning, torch and wandb warn one of the other here, of what is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")


def _train(folder, name, *words):
    own = [word for word in SMALL_RUN if not word.startswith("logger=")]
    paths = [f"paths.runs_dir={folder / 'runs'}", f"paths.stores_dir={folder / 'stores'}", f"run_name={name}"]
    quiet = ["trainer.enable_progress_bar=false", "trainer.max_epochs=2", "callbacks.early_stopping=null"]
    run(compose_training([*own, *paths, *quiet, "model.encoder.dropout=0.25", "data.augmentation=full", *words]))
    return folder / "runs" / name


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return tmp_path_factory.mktemp("montages")


@pytest.fixture(scope="module")
def logged(workplace):
    return _train(workplace, "with")


@pytest.fixture(scope="module")
def events(logged):
    accumulator = EventAccumulator(str(logged / "logs/tensorboard"), size_guidance={"images": 0})
    accumulator.Reload()
    return accumulator


def test_tensorboard_has_a_picture_of_each_epoch(events):
    pictures = events.Images(TAG)
    assert len(pictures) == 2
    assert pictures[0].step < pictures[1].step
    assert (pictures[0].width, pictures[0].height) == (pictures[1].width, pictures[1].height)
    assert pictures[0].encoded_image_string != pictures[1].encoded_image_string
    assert all(len(picture.encoded_image_string) < 600_000 for picture in pictures)


def test_the_entropy_of_attention_is_logged_each_epoch(events, logged):
    values = pd.read_csv(logged / "logs/csv/metrics.csv")["val/attention_entropy"].dropna()
    assert len(values) == 2
    assert values.between(0, 1).all()
    assert [event.value for event in events.Scalars("val/attention_entropy")] == pytest.approx(values.tolist())


def test_losses_are_the_same_to_the_last_bit_with_and_without(workplace, logged):
    without = _train(workplace, "without", "callbacks.attention_montages=null")
    first, second = (pd.read_csv(folder / "logs/csv/metrics.csv") for folder in (logged, without))
    for name in ("train/loss", "val/loss"):
        pd.testing.assert_series_equal(first[name], second[name], check_exact=True)


def test_weights_and_biases_has_a_picture_of_each_epoch_without_a_network(workplace, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = _train(workplace, "wandb", "logger=[wandb]", "logger.wandb.offline=true")
    import wandb

    wandb.finish()
    offline = next((folder / "wandb").glob("offline-run-*"))
    pictures = sorted((offline / "files/media/images/val").glob("attention_*.png"))
    assert len(pictures) == 2
    assert pictures[0].read_bytes() != pictures[1].read_bytes()


def test_without_a_logger_of_pictures_nothing_is_drawn(workplace, monkeypatch):
    monkeypatch.setattr(AttentionMontages, "draw", lambda *_: pytest.fail("drawn for nobody"))
    _train(workplace, "csv", "logger=csv", "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def datamodule(workplace):
    datamodule = BagDataModule(
        SyntheticBags(num_slides=24, num_tiles=4, tile_size=32),
        target="malignant",
        stores_dir=str(workplace / "stores"),
    )
    datamodule.setup()
    return datamodule


def test_the_bags_are_of_validation_of_every_class_and_always_the_same(datamodule):
    chosen = choose_bags(datamodule, 4)
    frame = datamodule.label_frame.set_index("index")
    assert sorted(chosen.values()) == [0, 0, 1, 1]
    assert (frame.loc[list(chosen), "split"] == "val").all()
    assert chosen == choose_bags(datamodule, 4)
    assert choose_bags(datamodule, 2) == dict(list(chosen.items())[:2])


class Fixed(AttentionMIL):
    """A network whose attention is given."""

    weights = (0.25, 0.25, 0.25, 0.25)

    def aggregate(self, embeddings, mask=None):
        output = super().aggregate(embeddings, mask)
        return output._replace(attention=output.attention.new_tensor([self.weights] * len(embeddings)))


def _draw(datamodule, weights, **encoder):
    network = Fixed(encoder=encoder).eval()
    network.weights = weights
    classifier = MILClassifier(network, class_names=datamodule.class_names, task=datamodule.task)
    return np.asarray(AttentionMontages(num_bags=1).draw(classifier, datamodule))


def _count(picture, share):
    colour = colours_of(np.array(share), (0, 1), "viridis")
    return int((picture == colour).all(axis=2).sum())


def test_equal_weights_are_dull_and_a_collapse_is_one_bright_tile(datamodule):
    encoder = {"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8}
    equal = _draw(datamodule, (0.25, 0.25, 0.25, 0.25), **encoder)
    collapsed = _draw(datamodule, (0.0, 1.0, 0.0, 0.0), **encoder)
    # A frame of 4 px round 64 px; the colour bar shows every colour in a row or two.
    frame = 72 * 72 - 64 * 64
    assert 4 * frame <= _count(equal, 0.5) < 4 * frame + 100
    assert _count(equal, 1.0) < 100
    assert frame <= _count(collapsed, 1.0) < frame + 100
    assert 3 * frame <= _count(collapsed, 0.0) < 3 * frame + 100
    assert in_words(np.full(7, 1 / 7)) == "entropy 1.00"
    assert in_words(np.array([1.0, 0, 0])) == "entropy 0.00"


def test_bags_of_features_are_drawn_as_bars(tmp_path):
    rng = np.random.default_rng(0)
    with BagStoreWriter(tmp_path / "store") as writer:
        for number in range(20):
            writer.add(f"bag {number}", rng.normal(size=(4, 6)).astype(np.float32), {"label": number % 2})
    datamodule = BagDataModule(StoredBags(str(tmp_path / "store")), stores_dir=str(tmp_path / "stores"))
    datamodule.setup()
    encoder = {"name": "linear", "num_features": 6, "hidden_dims": [8]}
    equal, collapsed = (_draw(datamodule, weights, **encoder) for weights in ((0.25,) * 4, (0.0, 1.0, 0.0, 0.0)))
    dark = [(picture < 120).all(axis=2).sum() for picture in (equal, collapsed)]
    assert equal.shape == collapsed.shape
    # Four bars of half the height against one of the whole.
    assert dark[0] > 1.5 * dark[1] > 0


def test_a_number_of_bags_that_is_none_is_refused():
    with pytest.raises(ValueError, match="num_bags=0"):
        AttentionMontages(num_bags=0)
