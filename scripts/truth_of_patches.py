"""Is attention higher on the patches of a bag that the mask calls cancer? AUROC within bags, with intervals by slide.

    python scripts/truth_of_patches.py --patches panda_gleason_patches --work work docs/tables/attention_truth.json

The slides of the PANDA patches are halved three times; bags of each half are tested by networks that were trained on bags of
the other. Attention is compared with the gradient times the input of a network that has none: the mean of embeddings.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faithfulness_patches import halves_of, patches, write_store
from milpath.data.store.bag_store import BagStore
from milpath.inference.faithfulness import question_of
from milpath.inference.faithfulness.partial_bags import PartialBags
from milpath.inference.faithfulness.tile_relevance import ATTENTION, GRADIENT, SINGLE, tile_relevance
from milpath.metrics.intervals import percentile_interval, resample_weights
from milpath.models.checkpoint import load_card, load_network
from milpath.records.atomic_files import write_json
from results_page.kept_tables import without_paths
from results_page.script_record import made_by

HALVINGS, NUM_RESAMPLES = 3, 1000
NETWORKS = {
    "attention": "attention_mil",
    "gated attention": "gated_attention_mil",
    "mean of embeddings": "embedding_pool_mil",
}
RECIPE = [
    "data=bag_store", "data.split_column=split", "data.class_names=[benign,cancer]", "model/encoder=linear",
    "model.encoder.hidden_dims=[64]", "model.encoder.dropout=0.25", "optimizer=adamw", "optimizer.lr=0.0002",
    "optimizer.weight_decay=0.01", "trainer.max_epochs=10", "trainer.accelerator=cpu", "report=false", "logger=none",
    "seed=0",
]  # fmt: skip
MEASURES = (
    ("attention", ATTENTION), ("gated attention", ATTENTION), ("attention", GRADIENT), ("gated attention", GRADIENT),
    ("mean of embeddings", GRADIENT), ("mean of embeddings", SINGLE),
)  # fmt: skip
RIVAL = ("mean of embeddings", GRADIENT)
Measure = tuple[str, str]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="where the table is kept")
    parser.add_argument("--patches", type=Path, required=True, help="folder of the patches")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder of stores and runs; a second run continues there"
    )
    words = parser.parse_args()
    started, minutes = time.monotonic(), 0.0
    table, features = patches(words.patches)
    slides = table["panda_image_id"].to_numpy()
    names = sorted(set(slides))
    number_of = np.array([names.index(name) for name in slides])
    pairs: dict[Measure, list[np.ndarray]] = {measure: [] for measure in MEASURES}
    bag_aurocs: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for halving in range(HALVINGS):
        draw = np.random.default_rng(halving)
        halves = halves_of(table, draw)
        for test in (0, 1):
            work = words.work / f"halving_{halving}_{test}"
            shutil.rmtree(work / "store", ignore_errors=True)  # of an earlier start: the same draw gives the same bags
            rows_of = write_store(work / "store", table, features, halves, test, draw)
            for name, model in NETWORKS.items():
                before = time.monotonic()
                run = trained(work, model)
                started += (
                    time.monotonic() - before
                )  # trainings count by their own record, also those of an earlier start
                minutes += float(json.loads((run / "provenance.json").read_text(encoding="utf-8"))["minutes"])
                bag_aurocs[name].append(json.loads((run / "metrics.json").read_text(encoding="utf-8"))["test"]["auroc"])
                for order, found in of_bags(run, work / "store", rows_of, number_of).items():
                    if (name, order) in pairs:
                        pairs[name, order] += found
    minutes = round(minutes + (time.monotonic() - started) / 60, 1)
    table_of = as_table({key: np.concatenate(each) for key, each in pairs.items()}, bag_aurocs, names, minutes)
    write_json(words.file, without_paths(table_of))


def trained(work: Path, model: str) -> Path:
    """Return the run folder of a network, which is trained unless it is done."""
    run = work / "runs" / model
    if not (run / "metrics.json").is_file():
        words = [
            *RECIPE,
            f"data.path={work / 'store'}",
            f"model={model}",
            f"paths.runs_dir={work / 'runs'}",
            f"run_name={model}",
        ]
        subprocess.run([sys.executable, "-m", "milpath.train", *words], check=True)
    return run


def of_bags(
    run: Path, store: Path, rows_of: Mapping[str, np.ndarray], slides: np.ndarray
) -> dict[str, list[np.ndarray]]:
    """Return the pairs of a cancer patch and a benign one in each test bag with both, by order of the tiles.

    Each pair is the slides of both, 1 if the cancer patch is first, 0.5 if neither, 0 otherwise, and the weight of the pair:
    those of a bag sum to 1.
    """
    path = run / "checkpoints" / "best.ckpt"
    network, question = load_network(path).eval(), question_of(load_card(path))
    found: dict[str, list[np.ndarray]] = {}
    opened = BagStore.open(store)
    labels = opened.tile_labels
    assert labels is not None
    for index, name in enumerate(opened.bags["bag_id"]):
        own = labels[opened.tile_slice(index)]
        if not (name.startswith("test") and own.any()):
            continue
        bag = PartialBags(network, torch.from_numpy(opened.read(index))[None])
        explained, _, relevance, _ = tile_relevance(bag, question, bag.num_tiles)
        of_slides = slides[rows_of[name]]
        for order, scores in relevance.items():
            signed = scores if order == ATTENTION else explained.towards_positive * scores
            wins = (np.sign(signed[own == 1][:, None] - signed[own == 0][None]) + 1) / 2
            first, second = np.meshgrid(of_slides[own == 1], of_slides[own == 0], indexing="ij")
            weight = np.full(wins.size, 1 / wins.size)
            found.setdefault(order, []).append(np.stack([first.ravel(), second.ravel(), wins.ravel(), weight], axis=1))
    return found


def resampled(pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the AUROC within bags for each resample of slides, `(resamples,)`.

    Args:
        pairs: `(pairs, 4)` as of `of_bags`.
        weights: `(resamples, slides)` how often each slide is drawn.
    """
    first, second = pairs[:, 0].astype(int), pairs[:, 1].astype(int)
    drawn = weights[:, first] * weights[:, second] * pairs[:, 3]
    return np.asarray(drawn @ pairs[:, 2] / drawn.sum(axis=1))


def as_table(
    pairs: Mapping[Measure, np.ndarray],
    bag_aurocs: Mapping[str, Sequence[float]],
    slides: Sequence[str],
    minutes: float,
) -> dict[str, Any]:
    """Return the file of the documentation."""
    whole = np.ones((1, len(slides)))
    drawn = np.concatenate(list(resample_weights(len(slides), None, NUM_RESAMPLES, 0)))
    values = {key: (float(resampled(each, whole)[0]), resampled(each, drawn)) for key, each in pairs.items()}
    rows = []
    for (network, order), (value, each) in values.items():
        own = percentile_interval(value, each)
        rival_value, rival = values[RIVAL]
        apart = percentile_interval(value - rival_value, each - rival)
        aurocs = bag_aurocs[network]
        rows.append([
            network, order, in_words(own), "reference" if (network, order) == RIVAL else in_words(apart, "+"),
            f"{np.mean(aurocs):.3f} ({min(aurocs):.3f} to {max(aurocs):.3f})",
        ])  # fmt: skip
    return {
        "title": "Attention and the mask",
        "columns": ["network", "order of the patches", "AUROC within bags", f"difference from {RIVAL[1]} of {RIVAL[0]}",
                    "AUROC of bags, mean (range)"],
        "rows": rows,
        "values": [
            {"network": network, "order": order, "auroc": value, "bag_aurocs": list(bag_aurocs[network])}
            for (network, order), (value, _) in values.items()
        ],
        "record": made_by(["python", "scripts/truth_of_patches.py", *sys.argv[1:]], minutes)
        | {"seeds": list(range(HALVINGS)), "unit": "measure", "num_trainings": HALVINGS * 2 * len(NETWORKS),
           "data": {"num_slides": len(slides)}},
    }  # fmt: skip


def in_words(interval: Any, sign: str = "") -> str:
    """Return a value with its interval, if resamples differ."""
    if interval.low is None or interval.high is None:
        return f"{interval.value:{sign}.2f}"
    return f"{interval.value:{sign}.2f} ({interval.low:{sign}.2f} to {interval.high:{sign}.2f})"


if __name__ == "__main__":
    main()
