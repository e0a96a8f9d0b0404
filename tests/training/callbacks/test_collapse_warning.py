"""A collapsed attention, and last weights far from the best ones, are said in one line; ordinary trainings say nothing."""

import pandas as pd
import pytest
import torch

from milpath.training.callbacks.collapse_warning import CollapseWarning, of_attention, of_loss
from tests.commands import here
from tests.runs.test_resume import FEATURES, write_features

pytestmark = pytest.mark.filterwarnings("ignore")

ORDINARY = [
    [0.999, 0.97, 0.8, 0.6, 0.45, 0.4, 0.36, 0.35, 0.33, 0.36],  # it finds tiles
    [0.999, 0.9989, 0.9983, 0.996, 0.991, 0.98],  # it begins to
    [0.9, 0.3, 0.05, 0.02, 0.018, 0.015, 0.012],  # small bags with one positive tile each
    [0.0] * 20,  # bags of one tile
    [0.7, 0.001, 0.001],  # too short to tell
]


@pytest.mark.parametrize("entropies", ORDINARY)
def test_ordinary_attention_is_not_warned_of(entropies):
    assert of_attention(entropies) is None


@pytest.mark.parametrize(
    ("entropies", "message"),
    [
        ([0.8, 0.2, 0.004, 0.006, 0.003, 0.001, 0.0], "on one tile of each validation bag in the last 5 epochs"),
        ([0.9] + [0.0] * 29, "on one tile of each validation bag in the last 10 epochs"),
        ([0.9972, 0.9991, 0.9994, 0.9996, 0.9995, 0.9998], "equal for all tiles in the last 5 epochs"),
    ],
)
def test_attention_that_stays_at_an_end_is_warned_of(entropies, message):
    assert message in of_attention(entropies)


@pytest.mark.parametrize(
    "losses",
    [
        [0.69],
        [0.69, 0.69],
        [0.69, 0.7, 0.69, 0.7],
        [0.69, 0.4, 0.1, 0.12, 0.16],
        [0.7, 0.02, 0.01, 0.08],
        [0.5, 0.6, 0.9],
        [0.69, 0.002, 0.0008, 0.124, 0.059, 0.0038],
    ],
)
def test_a_loss_that_varies_or_was_never_lower_is_not_warned_of(losses):
    assert of_loss(losses) is None


def test_a_loss_that_ends_far_above_its_best_is_warned_of_with_what_to_do():
    found = of_loss([0.69, 0.2, 0.05, 0.3])
    assert "train/loss ended at 0.3, far above its best, 0.05 in epoch 3" in found
    assert "scheduler=cosine" in found
    # A step of a rare bag, long after all others were right: AUROC fell from 0.989 to 0.918.
    assert "0.0001 in epoch 3" in of_loss([0.69, 0.01, 0.0001, 0.0002, 0.1085, 0.0144, 0.0394])
    assert of_loss([0.69, 0.4, 3.0])  # also where it ends above its beginning


def run(folder, capfd, *words: str, scale: float = 1.0) -> list[str]:
    """Return the warnings of a training of the command on noise."""
    write_features(folder / "in", [0, 1] * 12)
    for path in (folder / "in/feats").iterdir():
        torch.save(torch.load(path, weights_only=True) * scale, path)
    assert here("milpath.train", *FEATURES, "callbacks.early_stopping=null", *words, cwd=folder) == 0
    return [line for line in "".join(capfd.readouterr()).splitlines() if "collapse_warning" in line]


@pytest.mark.command
def test_large_features_that_are_not_standardised_collapse_attention_and_the_run_says_so(tmp_path, capfd):
    words = ["optimizer.lr=30", "trainer.max_epochs=7", "model.encoder.hidden_dims=[]", "run_name=large"]
    (found,) = run(tmp_path, capfd, *words, scale=100)
    assert "runs/large: attention was on one tile of each validation bag in the last 5 epochs" in found
    content = torch.load(tmp_path / "runs/large/checkpoints/last.ckpt", weights_only=True)
    assert len(content["callbacks"]["CollapseWarning"]["entropies"]) == 7


@pytest.mark.command
def test_the_plain_mean_of_tiles_is_not_attention_that_collapsed(tmp_path, capfd):
    words = ["optimizer.lr=0.01", "trainer.max_epochs=6", "model=embedding_pool_mil", "model/encoder=linear"]
    assert run(tmp_path, capfd, *words) == []


def test_its_state_is_kept_for_a_resumed_training():
    first, second = CollapseWarning("a"), CollapseWarning("a")
    first._losses, first._entropies = [0.7, 0.5], [0.9, 0.8]
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == {"losses": [0.7, 0.5], "entropies": [0.9, 0.8]}


@pytest.mark.command
def test_a_checkpoint_holds_the_loss_of_each_epoch_that_has_ended_and_of_no_other(tmp_path, capfd):
    words = ["optimizer.lr=0.01", "run_name=whole", "trainer.max_epochs=4", "data.batch_size=4"]
    timed = [
        "callbacks.timed_checkpoint.train_time_interval.minutes=0.0000001",
        "callbacks.timed_checkpoint.filename=timed",
    ]
    run(tmp_path, capfd, *words, *timed)
    logged = pd.read_csv(tmp_path / "runs/whole/logs/csv/metrics.csv")["train/loss"].dropna().tolist()
    assert len(logged) == 4
    for name, ended in (("last", 4), ("timed", 3)):  # the latter within the last epoch
        content = torch.load(tmp_path / f"runs/whole/checkpoints/{name}.ckpt", weights_only=True)
        assert content["callbacks"]["CollapseWarning"]["losses"] == pytest.approx(logged[:ended], rel=1e-6)
