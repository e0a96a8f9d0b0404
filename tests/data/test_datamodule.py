import json
import logging
import re
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from milpath.data.datamodule import BagDataModule
from milpath.data.sources.panda_tiles import PandaTiles
from milpath.data.sources.synthetic import SyntheticBags
from milpath.data.store.stored_bags import StoredBags


@pytest.fixture
def datamodule(make_store):
    """A data module over a store of 40 bags unless arguments say otherwise."""

    def make(lengths=None, labels=None, columns=None, tile_shape=(6, 6, 3), tile_labels=False, **options):
        path = make_store(lengths or [3] * 40, labels, tile_shape, tile_labels=tile_labels, **(columns or {}))
        made = BagDataModule(StoredBags(path), **options)
        made.setup()
        return made

    return make


def ids(loader):
    return [bag_id for batch in loader for bag_id in batch.batch.bag_ids]


def test_loaders_give_the_bags_of_their_split(datamodule):
    data = datamodule()
    assert {split: len(data.bag_ids(split)) for split in data.splits} == {"train": 24, "val": 8, "test": 8}
    assert sorted(ids(data.train_dataloader())) == data.bag_ids("train")
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        assert sorted(ids(loader)) == data.bag_ids(split)
        assert ids(loader) == ids(data.dataloader(split))
    assert data.class_counts("test") == [4, 4]
    assert data.task == "binary"
    assert data.num_classes == 2


def test_a_data_module_can_be_printed(datamodule):
    data = datamodule()
    assert str(data) == (f"BagDataModule, binary (0, 1): 24 train, 8 val, 8 test of 40 bags in {data.store.path}")
    assert str(BagDataModule(data.source)) == "BagDataModule, before setup()"


def test_labels_follow_their_bags_into_the_batch(datamodule):
    labels = [number % 3 for number in range(40)]
    data = datamodule(labels=labels, num_folds=4)
    assert data.task == "nominal"
    for split in data.splits:
        for batch in data.dataloader(split):
            for bag_id, label in zip(batch.batch.bag_ids, batch.batch.labels.tolist(), strict=True):
                assert label == labels[int(bag_id[-3:])]


def test_only_training_batches_are_augmented(datamodule):
    data = datamodule(augmentation="full")

    def tiles(loader):
        return torch.cat([batch.to("cpu").tiles for batch in loader])

    assert torch.equal(tiles(data.dataloader("train")), tiles(data.dataloader("train")))
    stored = torch.from_numpy(np.array(data.store.tiles)).float() / 255
    plain = tiles(data.dataloader("train")).flatten(0, 1).permute(0, 2, 3, 1)
    assert all((stored == tile).flatten(1).all(1).any() for tile in plain)
    changed = tiles(data.train_dataloader()).flatten(0, 1).permute(0, 2, 3, 1)
    assert not all((stored == tile).flatten(1).all(1).any() for tile in changed)
    assert not torch.equal(tiles(data.dataloader("train", augment=True)), tiles(data.dataloader("train")))


def test_setup_twice_changes_nothing(datamodule):
    data = datamodule()
    frame = data.label_frame
    data.setup("test")
    assert data.label_frame is frame


def test_prepare_data_is_not_overridden():
    """Lightning opens a process group of its own where it is, which some backends forbid."""
    assert "prepare_data" not in vars(BagDataModule)


def test_the_written_split_can_be_read_again(datamodule, make_store, tmp_path):
    data = datamodule(split_seed=3)
    data.split_frame().to_csv(tmp_path / "splits.csv", index=False)
    again = BagDataModule(data.source, splits=str(tmp_path / "splits.csv"))
    again.setup()
    assert again.split_frame().equals(data.split_frame())


def test_a_split_file_that_parts_a_group_is_refused(datamodule, tmp_path):
    lines = [f"bag_{number:03d},{'train' if number else 'test'}" for number in range(40)]
    (tmp_path / "splits.csv").write_text("id,split\n" + "\n".join(lines) + "\n")
    columns = {"patient": [number // 2 for number in range(40)]}
    words = r"\(first: 'group 0', with 'bag_000' in test and 'bag_001' in train\); put all bags of a group, such as a patient"
    with pytest.raises(ValueError, match=rf"splits.csv puts 1 group\(s\) in more than one split {words}"):
        datamodule(columns=columns, splits=str(tmp_path / "splits.csv"), group_column="patient")


def test_a_data_set_with_a_split_of_its_own_keeps_it(datamodule):
    own = ["train"] * 30 + ["test"] * 10
    data = datamodule(columns={"split": own}, split_column="split")
    assert data.splits == ["train", "test"]
    assert data.bag_ids("test") == [f"bag_{number:03d}" for number in range(30, 40)]
    assert data.val_dataloader() == []
    validated = BagDataModule(data.source, split_column="split", val_fraction=0.2)
    validated.setup()
    assert validated.bag_ids("test") == data.bag_ids("test")
    assert len(validated.bag_ids("val")) == 6


def test_excluded_bags_are_nowhere(datamodule, tmp_path):
    (tmp_path / "x.csv").write_text("image_id,reason\nbag_003,marks\nbag_010,blank\n")
    data = datamodule(exclude=[str(tmp_path / "x.csv")])
    assert len(data.label_frame) == 38
    assert not {"bag_003", "bag_010"} & set(data.label_frame["bag_id"])


def test_limits_draw_the_same_bags_again_and_keep_the_shares(datamodule):
    labels = [0] * 30 + [1] * 10
    per_class = datamodule(labels=labels, max_bags_per_class=6, num_folds=3)
    assert per_class.label_frame["label"].value_counts().to_dict() == {0: 6, 1: 6}
    again = BagDataModule(per_class.source, max_bags=12, num_folds=3)
    again.setup()
    assert again.label_frame["label"].value_counts().to_dict() == {0: 9, 1: 3}
    third = BagDataModule(per_class.source, max_bags=12, num_folds=3)
    third.setup()
    assert third.label_frame.equals(again.label_frame)


def test_statistics_come_from_the_training_split_alone_and_travel_with_a_checkpoint(datamodule):
    data = datamodule(lengths=[3, 5] * 20, tile_shape=(7,), standardize=True)
    rows = [
        data.store.tiles[data.store.tile_slice(index)] for index in data.label_frame.query("split=='train'")["index"]
    ]
    np.testing.assert_allclose(data.statistics.mean, np.concatenate(rows).mean(0, dtype=np.float64), rtol=1e-6)
    batch = next(iter(data.dataloader("test"))).to("cpu")
    assert batch.tiles.shape[2] == 7
    index = data.store.bags["bag_id"].tolist().index(batch.bag_ids[0])
    expected = (data.store.tiles[data.store.tile_slice(index)] - data.statistics.mean) / data.statistics.std
    np.testing.assert_allclose(batch.tiles[0][batch.mask[0]], expected, rtol=1e-4, atol=1e-5)
    state = json.loads(json.dumps(data.state_dict()))
    other = BagDataModule(data.source, standardize=True, num_folds=1)
    other.load_state_dict(state)
    other.setup()
    np.testing.assert_array_equal(other.statistics.mean, data.statistics.mean)


def test_a_description_is_plain_and_names_store_and_labels(datamodule):
    data = datamodule()
    description = json.loads(json.dumps(data.description, allow_nan=False))
    assert description["store_sha256"] == data.store.description["sha256"]
    assert description["bags_per_class"] == {"train": [12, 12], "val": [4, 4], "test": [4, 4]}
    assert len(description["labels_sha256"]) == 64


def test_the_hash_of_the_labels_changes_with_a_label(datamodule, make_store):
    one = datamodule().description["labels_sha256"]
    path = make_store([3] * 40, [1 - number % 2 for number in range(40)], name="other")
    other = BagDataModule(StoredBags(path))
    other.setup()
    assert other.description["labels_sha256"] != one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "isup"}, "label 6 of slide"),
        ({"stratify_by": ["laboratory"]}, "data.stratify_by names 'laboratory'"),
    ],
)
def test_bad_labels_are_found_before_a_tile_is_decoded(synthetic_folder, tmp_path, options, message):
    table = pd.read_csv(synthetic_folder / "train.csv")
    if "target" in options:
        table.loc[2, "isup_grade"] = 6
    table.to_csv(tmp_path / "train.csv", index=False)
    source = PandaTiles(synthetic_folder / "train", tmp_path / "train.csv", num_tiles=4, tile_size=32)
    data = BagDataModule(source, stores_dir=str(tmp_path / "stores"), **({"target": "malignant"} | options))
    with pytest.raises(ValueError, match=message):
        data.setup()
    assert not [path for path in (tmp_path / "stores").glob("*") if path.is_dir()]


def test_one_class_in_a_split_is_said(datamodule, tmp_path, caplog):
    lines = [f"bag_{number:03d},{'val' if number < 8 and number % 2 == 0 else 'train'}" for number in range(40)]
    (tmp_path / "splits.csv").write_text("id,split\n" + "\n".join(lines) + "\n")
    with caplog.at_level(logging.WARNING, logger="milpath"):
        datamodule(splits=str(tmp_path / "splits.csv"), class_names=["benign", "malignant"])
    assert caplog.messages == ["split 'val' has bags of only one class ('benign'): val/auroc is undefined there"]


@pytest.mark.parametrize(
    ("words", "said"), [("low medium high", "high < low < medium"), ("G1 G2 G3", ""), ("0 1 2", "")]
)
def test_an_ordinal_task_in_alphabetical_order_says_so(words, said, datamodule, caplog):
    with caplog.at_level(logging.WARNING):
        datamodule(labels=[words.split()[number % 3] for number in range(40)], task="ordinal")
    expected = (
        f"the classes of the ordinal task are in alphabetical order: {said}; if this is not from low to high, give"
    )
    assert [message for message in caplog.messages if message.startswith(expected)] == caplog.messages
    assert len(caplog.messages) == bool(said)


def test_training_on_one_class_is_an_error(datamodule):
    data = datamodule(labels=[1] * 40, class_names=["benign", "malignant"])
    message = (
        "the training split has bags of only one class ('malignant'), but training needs two; "
        "check data.labels, data.target and data.splits"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        data.train_dataloader()


def test_an_empty_split_is_an_error_where_it_is_asked_for(datamodule):
    data = datamodule(num_folds=1)
    message = "the train split is empty: the data have test; check data.num_folds, data.val_fraction and data.splits"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        data.train_dataloader()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "data.batch_size is 0; it must be 1 or more"),
        ({"eval_batch_size": -1}, "data.eval_batch_size is -1; it must be 1 or more"),
        ({"num_workers": -1}, "data.num_workers is -1; it must be 0 or more"),
        (
            {"task": "multiclass"},
            "data.task is 'multiclass'; it must be one of binary, nominal, ordinal, regression, survival, several, multilabel, or null",
        ),
        ({"max_bags": 0}, "data.max_bags is 0; it must be 1 or more, or null for all bags"),
        ({"device_cache": "gpu"}, "data.device_cache is 'gpu'; it must be one of auto, never, always"),
        (
            {"augmentation": "rotate"},
            "data.augmentation is 'rotate'; it must be one of none, flips, turns, full, affine",
        ),
        (
            {"standardize": True},
            "data.standardize is for feature bags; encoders of tiles carry their own normalisation: these are tiles, so set "
            "data.standardize=false, or encode them first (milpath extract slides=STORE encoder=NAME output=FEATURES)",
        ),
    ],
)
def test_a_bad_option_is_one_line(datamodule, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        datamodule(**options)


def test_features_cannot_be_augmented(datamodule):
    with pytest.raises(ValueError, match=r"^data.augmentation=flips is for images; these are features$"):
        datamodule(tile_shape=(5,), augmentation="flips")


# Lightning 2.6 asks PyTorch's tree in a way that PyTorch 2.14 deprecates; nothing of ours is in it.
lightning_warns = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


class Recorder(LightningModule):
    """Notes the bags of each step; learns one number so that there is a training."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        assert batch.tiles.dtype == torch.float32
        assert batch.tiles.shape[2] == 3
        self.seen.append((self.current_epoch, tuple(batch.bag_ids), float(batch.tiles.sum())))
        return (self.weight - batch.tiles.mean()) ** 2

    def validation_step(self, batch, batch_idx):
        assert batch.tiles.max() <= 1

    def predict_step(self, batch, batch_idx):
        return batch.bag_ids

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveEveryStep(Callback):
    """Writes a checkpoint after each step and has no state of its own in it."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, *arguments):
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


def trainer(folder, **options):
    return Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        use_distributed_sampler=False, **({"enable_checkpointing": False} | options),
    )  # fmt: skip


@lightning_warns
def test_lightning_trains_validates_and_predicts_without_a_warning(datamodule, tmp_path):
    data = datamodule(batch_size=5, augmentation="turns")
    module = Recorder()
    runner = trainer(tmp_path, max_epochs=3)
    runner.fit(module, datamodule=data)
    orders = [[bags for epoch, bags, _ in module.seen if epoch == number] for number in range(3)]
    assert [len(order) for order in orders] == [5, 5, 5]
    assert orders[0] != orders[1] != orders[2]
    for order in orders:
        assert sorted(chain.from_iterable(order)) == data.bag_ids("train")
    predicted = runner.predict(module, dataloaders=data.dataloader("test"))
    assert sorted(chain.from_iterable(predicted)) == data.bag_ids("test")


@lightning_warns
def test_training_resumed_in_mid_epoch_sees_the_bags_and_tiles_of_the_uninterrupted(datamodule, tmp_path):
    whole = Recorder()
    runner = trainer(tmp_path, max_epochs=3, callbacks=[SaveEveryStep(tmp_path)])
    runner.fit(whole, datamodule=datamodule(batch_size=5, augmentation="full"))
    for step in (3, 5, 8, 10):
        resumed = Recorder()
        data = BagDataModule(StoredBags(tmp_path / "store"), batch_size=5, augmentation="full")
        path = tmp_path / f"{step}.ckpt"
        trainer(tmp_path, max_epochs=3).fit(resumed, datamodule=data, ckpt_path=path, weights_only=True)
        assert resumed.seen == whole.seen[step:]
        assert torch.equal(resumed.weight, whole.weight)


def test_synthetic_slides_are_learnt_through_the_whole_chain(tmp_path):
    """A linear model on the darkest pixels of each tile, over the very batches a network gets."""
    data = BagDataModule(
        SyntheticBags(num_slides=80, num_tiles=8, tile_size=48),
        target="malignant", stratify_by=["data_provider"], stores_dir=str(tmp_path), num_folds=4,
    )  # fmt: skip
    data.setup()
    darkest = {0: [], 1: []}
    for split in data.splits:
        for batch in data.dataloader(split):
            batch = batch.to("cpu")
            quantiles = batch.tiles[:, :, 0].flatten(2).quantile(0.02, dim=2).amin(1)
            for label, value in zip(batch.labels.tolist(), quantiles.tolist(), strict=True):
                darkest[label].append(value)
    assert np.mean(darkest[1]) < np.mean(darkest[0]) - 0.05


def test_a_table_of_bags_keeps_every_column(datamodule):
    data = datamodule(columns={"provider": ["a", "b"] * 20}, stratify_by=["provider"])
    counts = pd.crosstab(data.label_frame["provider"], data.label_frame["split"])
    assert (counts.loc["a"] - counts.loc["b"]).abs().max() == 0


def test_a_split_of_the_data_that_parts_a_group_is_refused(datamodule):
    columns = {"patient": ["a", "b"] * 20, "split": ["train"] * 21 + ["test"] * 19}
    with pytest.raises(ValueError, match=r"column 'split' of the data puts 2 group\(s\) in more than one split"):
        datamodule(columns=columns, group_column="patient", split_column="split")


def test_a_column_called_split_is_not_the_split_unless_it_is_named(datamodule, caplog):
    own = {"split": ["train"] * 30 + ["test"] * 10, "index": [7] * 40, "fold": [0] * 40}
    data = datamodule(columns=own)
    assert data.label_frame["split"].value_counts().to_dict() == {"train": 24, "val": 8, "test": 8}
    assert data.label_frame["index"].tolist() == list(range(40))
    assert (
        "column 'split' of the labels is not used as the split: a new one is made; data.split_column=split uses it"
        in (caplog.messages)
    )


def test_groups_of_a_file_are_those_of_every_bag_also_of_bags_that_are_not_drawn(datamodule, tmp_path):
    names = [f"bag_{number:03d}" for number in range(40)]
    rows = [f"{name},{number // 4}" for number, name in enumerate(names[:38])]
    (tmp_path / "groups.csv").write_text("image_id,group\n" + "\n".join(rows) + "\n")
    groups = datamodule(groups=str(tmp_path / "groups.csv"), max_bags=30).groups
    assert list(groups) == names
    assert len(set(groups.values())) == 12


def test_a_bag_without_a_patient_is_a_group_of_its_own(datamodule):
    patients = datamodule(
        columns={"patient": [None, None, *"abcdefghij", *"abcdefghij" * 2, *"abcdefgh"]}, group_column="patient"
    ).groups
    assert len(set(patients.values())) == 12


def test_bags_stand_alone_unless_groups_are_given(datamodule):
    assert datamodule().groups is None
