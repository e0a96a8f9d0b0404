"""A training of a few seconds for the checks of this folder, and what must hold of its results."""

from pathlib import Path

import pandas as pd
import torch

# 23 bags and batches of 3 on each of two processes: neither divides, and the test split has two bags. Without augmentation
# and dropout nothing depends on chance, so that an interrupted training can be compared bit by bit.
SMALL = (
    "data=synthetic",
    "data.num_slides=23",
    "data.num_tiles=4",
    "data.tile_size=32",
    "data.num_folds=11",
    "data.stratify_by=[]",
    "data.augmentation=none",
    "data.batch_size=3",
    "model.encoder.tile_size=32",
    "model.encoder.embedding_dim=16",
    "model.encoder.dropout=0",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=6",
    "callbacks.early_stopping=null",
    "callbacks.progress=null",
    "optimizer.lr=0.001",
    "logger=csv",
    "report=false",
)
SLOW = ("+callbacks.slow._target_=slow_steps.SlowSteps", "+callbacks.slow.seconds=0.4")


def epochs_done(run_dir: Path) -> int:
    """Return the number of epochs of which the log of a run has results."""
    log = run_dir / "logs" / "csv" / "metrics.csv"
    if not log.is_file():
        return 0
    try:
        return int(pd.read_csv(log)["epoch"].nunique())
    except (pd.errors.EmptyDataError, KeyError):
        return 0


def require_equal_runs(run_dir: Path, other_dir: Path) -> None:
    """Compare an interrupted run with one that was not: weights bit by bit, results, and every bag counted once."""
    weights, expected = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for folder in (run_dir, other_dir)
    )
    assert expected.keys() == weights.keys()
    assert [name for name, value in expected.items() if not torch.equal(weights[name], value)] == []
    for name in ("metrics.json", "predictions.csv"):
        assert (run_dir / name).read_bytes() == (other_dir / name).read_bytes()
    ids = pd.read_csv(run_dir / "predictions.csv")["id"]
    assert (len(ids), ids.nunique()) == (23, 23)
    log, other_log = (pd.read_csv(folder / "logs" / "csv" / "metrics.csv") for folder in (run_dir, other_dir))
    pd.testing.assert_frame_equal(log, other_log)
