"""The comparison of recipes for MNIST-bags: which digits it uses, and that it learns."""

import json
import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

import mnist_recipe


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """Bright nines among dark digits; those kept for validation have one bright corner. There is no test digit."""
    labels = np.arange(400) % 10
    images = np.random.default_rng(0).integers(0, 40, (400, 28, 28), np.uint8)
    images[labels == 9, 8:20, 8:20] = 250
    images[300:, 0, 0] = 255
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:0], y_test=labels[:0])
    monkeypatch.setattr(mnist_recipe, "FIRST_VALIDATION_DIGIT", 300)
    monkeypatch.setattr(mnist_recipe, "NUM_VALIDATION", 20)
    return path


def test_no_digit_is_in_a_training_and_a_validation_bag(digits, tmp_path, monkeypatch):
    trained, measured = [], []
    monkeypatch.setattr(mnist_recipe, "train", lambda bags, recipe, seed: trained.append(bags))
    monkeypatch.setattr(
        mnist_recipe, "measure", lambda network, bags: measured.append(bags) or {"auroc": 0.5, "log_loss": 0.7}
    )
    mnist_recipe.main([str(digits), str(tmp_path / "out.json"), "affine", "--bags", "12", "--seeds", "2"])
    assert len(trained) == len(measured) == 2
    for bags, corner in ((trained, 0), (measured, 1)):
        for drawn in bags:
            tiles, mask = drawn.batch(list(range(len(drawn.labels))))
            assert ((tiles[mask][:, 0, 0, 0] == 1) == bool(corner)).all()
            assert (tiles[~mask] == 0).all()
            # A bag is positive if it has a bright digit.
            assert ((tiles[..., 0, 14, 14] > 0.9).any(1) == drawn.labels.bool()).all()


def test_a_recipe_learns_and_its_rows_are_kept(digits, tmp_path, monkeypatch, capsys):
    easy = {"batch_size": 4, "lr": 1e-3, "steps": 25, "augmentation": "affine"}
    monkeypatch.setattr(mnist_recipe, "CANDIDATES", {"easy": easy, "none": easy | {"steps": 1}})
    output = tmp_path / "out.json"
    mnist_recipe.main([str(digits), str(output), "easy", "--bags", "20", "--seeds", "1"])
    mnist_recipe.main([str(digits), str(output), "--bags", "20", "--seeds", "1"])
    rows = json.loads(output.read_text())
    assert [row["recipe"] for row in rows] == ["easy", "none"]
    assert rows[0]["auroc"] > 0.95
    assert rows[0].items() >= {**easy, "bags": 20, "seed": 0}.items()
    assert capsys.readouterr().out.count("AUROC") == 2
    with pytest.raises(SystemExit):
        mnist_recipe.main([str(digits), str(output), "hard"])
    assert "no recipe 'hard'; give easy, none" in capsys.readouterr().err
