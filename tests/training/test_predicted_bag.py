"""`Trainer.predict` of Lightning with a classifier and its data."""

import numpy as np
import pytest
from lightning.pytorch import Trainer

from milpath.data import StoredBags
from milpath.data.datamodule import BagDataModule
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.inference.predict_bags import predict_bags
from milpath.models import AttentionMIL
from milpath.training import MILClassifier


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num_folds", [4, 1])
def test_trainer_predict_returns_every_bag_of_all_splits_once(num_folds, tmp_path):
    rng, lengths = np.random.default_rng(0), [3, 1, 7, 2, 5, 4, 2, 6, 1, 3, 2, 8]
    with BagStoreWriter(tmp_path / "store") as writer:
        for number, length in enumerate(lengths):
            writer.add(f"bag_{number:02d}", rng.standard_normal((length, 6), np.float32), {"label": number % 2})
    data = BagDataModule(StoredBags(tmp_path / "store"), num_folds=num_folds, batch_size=2, stores_dir=str(tmp_path))
    network = AttentionMIL(encoder={"name": "linear", "num_features": 6, "hidden_dims": [8]})
    classifier = MILClassifier(network, class_names=("benign", "malignant"), task="binary")
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    # Batches are of bags of similar length.
    bags = sorted((bag for batch in trainer.predict(classifier, data) for bag in batch), key=lambda bag: bag.bag_id)
    assert [bag.bag_id for bag in bags] == [f"bag_{number:02d}" for number in range(12)]
    assert [bag.label for bag in bags] == [number % 2 for number in range(12)]
    assert [len(bag.attention) for bag in bags] == lengths
    splits = data.split_frame().set_index("id")["split"]
    assert len(set(splits[[bag.bag_id for bag in bags]])) == (3 if num_folds == 4 else 1)
    for bag, expected in zip(bags, predict_bags(classifier.network.eval(), data.store, "binary"), strict=True):
        np.testing.assert_allclose(bag.probabilities, expected.probabilities, atol=1e-6)
        np.testing.assert_allclose(bag.attention, expected.attention, atol=1e-6)
        assert bag.probabilities[1] == pytest.approx(1 / (1 + np.exp(-bag.logits[0])), abs=1e-6)
    if num_folds == 4:  # the bags of one split
        test = [bag.bag_id for batch in trainer.predict(classifier, data.dataloader("test")) for bag in batch]
        assert sorted(test) == data.bag_ids("test")
