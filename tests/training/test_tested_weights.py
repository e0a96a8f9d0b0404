"""Weights that never learned their training bags, or whose attention collapsed, are said in one line; others are not."""

import numpy as np
import pytest
import torch

from milpath.records.prediction_table import Predictions
from milpath.training.tested_weights import of_tested_weights, relative_log_loss, warn_of_tested_weights
from tests.commands import here
from tests.runs.test_resume import FEATURES, write_features


def bags(share_positive: float, signal: float, balanced: bool = False, num_bags: int = 4000):
    """Return the true probabilities of bags whose score is normal with means 0 and `signal`, and their labels."""
    draw = np.random.default_rng(0)
    labels = (np.arange(num_bags) < share_positive * num_bags).astype(np.int64)
    scores = draw.normal(size=num_bags) + signal * labels
    prior = 0.0 if balanced else np.log(share_positive / (1 - share_positive))
    positive = 1 / (1 + np.exp(-(signal * scores - signal**2 / 2 + prior)))
    return np.stack([1 - positive, positive], axis=1), labels


@pytest.mark.parametrize("share", [0.5, 0.05])
@pytest.mark.parametrize("balanced", [False, True])
def test_weak_but_true_signal_is_not_warned_of_and_none_is(share, balanced):
    assert of_tested_weights(relative_log_loss(*bags(share, 1.0, balanced))) is None  # an area under the curve of 0.76
    found = of_tested_weights(relative_log_loss(*bags(share, 0.1, balanced)))
    assert "hardly better on their own training bags than a constant" in found


def test_the_log_loss_is_relative_to_the_shares_or_to_equal_probabilities():
    labels = np.array([0] * 9 + [1])
    assert relative_log_loss(np.tile([0.9, 0.1], (10, 1)), labels) == pytest.approx(1)
    assert relative_log_loss(np.full((10, 2), 0.5), labels) == pytest.approx(1)
    assert relative_log_loss(np.full((10, 2), 0.5), np.zeros(10, np.int64)) is None
    assert relative_log_loss(np.full((9, 3), 1 / 3), np.arange(9) % 3) == pytest.approx(1)
    # Sure and wrong is worse than a constant, and finite.
    assert 1 < relative_log_loss(np.eye(2)[[1, 0]], np.array([0, 1])) < 100
    # Bags without a label do not count.
    assert relative_log_loss(np.array([[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]]), np.array([0, 1, -1])) == pytest.approx(1)


@pytest.mark.parametrize("learned", [0.1, None])
def test_attention_of_one_tile_or_equal_for_all_is_warned_of_in_trainings_that_learned(learned):
    hot, flat, tilted = np.array([1.0, 0, 0]), np.full(3, 1 / 3), np.array([0.6, 0.3, 0.1])
    assert "on one tile of each training bag" in of_tested_weights(learned, [hot, hot])
    assert "equal for all tiles" in of_tested_weights(learned, [flat, flat])
    for ordinary in ([hot, flat], [tilted, tilted], [np.ones(1), np.ones(1)], []):
        assert of_tested_weights(learned, ordinary) is None


def warnings_of(folder, capfd, *words: str, scale: float = 1.0) -> list[str]:
    """Return the warnings of a training on noise without validation, whose weights are averaged."""
    if not (folder / "in").exists():
        write_features(folder / "in", [0, 1] * 12)
    for path in (folder / "in/feats").iterdir():
        torch.save(torch.load(path, weights_only=True) * scale, path)
    more = ["callbacks=no_validation_averaged", "data.val_fraction=0", "model.encoder.hidden_dims=[]"]
    assert here("milpath.train", *FEATURES, *more, *words, cwd=folder) == 0
    printed = "".join(capfd.readouterr())
    return [line for line in printed.splitlines() if "tested_weights" in line or "collapse_warning" in line]


@pytest.mark.command
@pytest.mark.filterwarnings("ignore")
def test_trainings_without_validation_say_in_one_line_what_is_wrong_with_the_tested_weights(tmp_path, capfd):
    (found,) = warnings_of(tmp_path, capfd, "optimizer.lr=1e-9", "trainer.max_epochs=2", "run_name=never")
    assert "runs/never: the tested weights are hardly better on their own training bags than a constant" in found
    assert "train longer" in found
    assert warnings_of(tmp_path, capfd, "optimizer.lr=0.01", "trainer.max_epochs=12", "run_name=learned") == []
    words = ["optimizer.lr=30", "trainer.max_epochs=7", "run_name=large"]
    (found,) = warnings_of(tmp_path, capfd, *words, scale=100)
    assert "runs/large: attention of the tested weights is on one tile of each training bag" in found


def test_predictions_without_classes_are_judged_by_their_attention(caplog):
    given = {"bag_ids": ["a", "b"], "labels": np.array([[0.5], [0.7]]), "probabilities": np.array([[0.1], [0.2]])}
    given |= {"class_names": [], "label_columns": ["label_age"], "answer_columns": ["age"]}
    given["attention"] = [np.array([1.0, 0.0])] * 2
    warn_of_tested_weights("a run", Predictions(splits=["train", "test"], **given), True)
    assert "a run: attention of the tested weights is on one tile" in caplog.text
    caplog.clear()
    # A fixed pooling has no attention of its own, and that of validation bags is judged over the epochs.
    warn_of_tested_weights("a run", Predictions(splits=["train", "test"], **given), False)
    warn_of_tested_weights("a run", Predictions(splits=["train", "val"], **given), True)
    assert not caplog.text
