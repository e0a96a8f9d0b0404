"""What Lightning writes of a run holds digests of all that a resumed run starts from."""

from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from milpath.data import BagDataModule, StoredBags
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.models import AttentionMIL, load_network
from milpath.runs.resume import require_trainer_state
from milpath.training import MILClassifier

pytestmark = pytest.mark.filterwarnings("ignore:.*(LeafSpec|does not have many workers)")


def trainer(folder, epochs=1):
    return Trainer(
        default_root_dir=folder, max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
    )  # fmt: skip


def classifier():
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "linear", "num_features": 4, "hidden_dims": [8]})
    optimizer = partial(torch.optim.Adam, lr=0.01)
    return MILClassifier(network, class_names=("negative", "positive"), task="binary", optimizer=optimizer)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A store of features, and the checkpoint of one epoch over it."""
    folder, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    with BagStoreWriter(folder / "store") as writer:
        for number in range(20):
            writer.add(f"slide {number}", rng.normal(number % 2, 1, (3, 4)).astype(np.float32), {"label": number % 2})
    first = trainer(folder)
    first.fit(classifier(), BagDataModule(StoredBags(folder / "store"), batch_size=4))
    first.save_checkpoint(folder / "last.ckpt")
    return folder


def resume(run, path):
    second = trainer(run, epochs=2)
    data = BagDataModule(StoredBags(run / "store"), batch_size=4)
    second.fit(classifier(), data, ckpt_path=path, weights_only=True)
    return second


def test_every_part_has_its_digest_and_the_run_goes_on(run):
    content = torch.load(run / "last.ckpt", weights_only=True)
    assert set(content["milpath"]["digests"]) == set(content)
    assert {"optimizer_states", "loops", "state_dict", "milpath"} <= set(content)
    require_trainer_state(run / "last.ckpt")
    load_network(run / "last.ckpt")
    assert resume(run, run / "last.ckpt").current_epoch == 2


def change_moment(content):
    content["optimizer_states"][0]["state"][0]["exp_avg"] *= 1.5


def change_loops(content):
    content["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"] = 0


@pytest.mark.parametrize(("edit", "part"), [(change_moment, "optimizer_states"), (change_loops, "loops")])
def test_a_run_does_not_go_on_from_a_state_that_was_changed(run, tmp_path, edit, part):
    content = torch.load(run / "last.ckpt", weights_only=True)
    edit(content)
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=f"its part '{part}' was changed after it was written") as caught:
        require_trainer_state(tmp_path / "last.ckpt")
    assert "\n" not in str(caught.value)


def test_lightning_itself_does_not_go_on_from_a_changed_optimizer(run, tmp_path):
    content = torch.load(run / "last.ckpt", weights_only=True)
    change_moment(content)
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="'optimizer_states' was changed"):
        resume(run, tmp_path / "last.ckpt")
