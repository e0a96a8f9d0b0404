"""When attention beats the plain mean: `python scripts/when_attention_helps.py OUTPUT --mnist FOLDER`.

Bags with a planted share of positive tiles, drawn slides (data=synthetic) and MNIST digits; frozen features; attention and
the mean of embeddings trained alike. Writes when_attention_helps.json and .svg; an interrupted run continues.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import stats
from torch.func import functional_call, stack_module_state, vmap

from milpath.metrics.comparison import corrected_resampled_t_test
from milpath.metrics.ranking import auroc
from milpath.metrics.shortcuts.permutation import holm
from milpath.models import AttentionMIL, EmbeddingPoolMIL
from milpath.models.network import MILNetwork
from milpath.records.atomic_files import write_json
from planted_bags import NUM_FEATURES, SLIDES, Plan, Pool, mnist_pool, synthetic_pool
from results_page.kept_tables import without_paths
from results_page.script_record import made_by

PLAN = Plan(
    sizes={64: (1, 2, 4, 8, 16, 32), 16: (1, 2, 4, 8)},
    num_bags={"mnist": (50, 100, 200, 400, 800), "synthetic": (50, 100, 200, 400)},
    num_test=400,
    seeds=8,
    epochs=30,
)
# As in experiment=ucsb_breast and experiment=glas.
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 8, 1e-3, 1e-2
METHODS: dict[str, Callable[..., MILNetwork]] = {"attention": AttentionMIL, "embedding_mean": EmbeddingPoolMIL}
Array = NDArray[np.float32]


def cell(pool: Pool, size: int, num_bags: int, plan: Plan) -> dict[str, Any]:
    """Train both methods on all seeds and shares; return the AUROC on test bags, `[share][seed]` for each method."""
    drawn = [pool.draw(seed, size, num_bags) for seed in range(plan.seeds)]
    train, test = (torch.from_numpy(np.concatenate([bags[part] for bags in drawn])) for part in (0, 1))
    counts, positive, found = plan.sizes[size], np.arange(plan.num_test) % 2 == 0, {}
    for method, kind in METHODS.items():
        logits, attention = outputs(kind, pool.features, train, test, len(counts), plan.epochs)
        by_share = [slice(place, None, len(counts)) for place in range(len(counts))]
        found[method] = [[float(auroc(positive, each)) for each in logits[own]] for own in by_share]
        if method == "attention":
            found["attention_on_planted"] = [
                float(attention[own][:, positive, :count].sum(-1).mean())
                for own, count in zip(by_share, counts, strict=True)
            ]
    return found


def outputs(
    kind: Callable[..., MILNetwork],
    features: torch.Tensor,
    train: torch.Tensor,
    test: torch.Tensor,
    num_shares: int,
    epochs: int,
) -> tuple[Array, Array]:
    """Train one network per row of bags, side by side, and return logits `(networks, bags)` and attention of the test bags.

    Each network has its own weights, and the losses of the others have no part in its gradients. The networks of a seed
    start alike and see the bags in the same order.
    """
    networks = []
    for number in range(len(train)):
        torch.manual_seed(number // num_shares)
        networks.append(kind(encoder={"name": "linear", "num_features": NUM_FEATURES, "hidden_dims": [NUM_FEATURES]}))
    weights, _ = stack_module_state(networks)

    def forward(own: dict[str, torch.Tensor], tiles: torch.Tensor) -> Any:
        output = functional_call(networks[0], own, (tiles,))
        return output.logits[:, 0], output.attention

    optimizer = torch.optim.AdamW(weights.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    orders = [np.random.default_rng(number // num_shares) for number in range(len(train))]
    for _ in range(epochs):
        order = torch.from_numpy(np.stack([rng.permutation(train.shape[1]) for rng in orders]))
        for batch in order.tensor_split(-(-train.shape[1] // BATCH_SIZE), 1):
            rows = train[torch.arange(len(train))[:, None], batch]
            logits, _ = vmap(forward)(weights, features[rows])
            labels = (batch % 2 == 0).float()
            loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    with torch.inference_mode():
        parts = [vmap(forward)(weights, features[rows]) for rows in test.split(50, 1)]
    logits, attention = (torch.cat([part[place] for part in parts], 1).numpy() for place in (0, 1))
    return logits, attention


def summarise(cells: Mapping[str, Mapping[str, Any]], plan: Plan) -> list[dict[str, Any]]:
    """Return one row per data, size of a bag, number of bags and share: means, and the paired difference."""
    rows = []
    for name, found in cells.items():
        data, size, num_bags = name.split("/")
        for place, count in enumerate(plan.sizes[int(size)]):
            row = {"data": data, "tiles": int(size), "training_bags": int(num_bags), "positive_tiles": count}
            for method in METHODS:
                values = np.array(found[method][place])
                row |= {method: float(values.mean()), f"{method}_standard_error": float(stats.sem(values))}
            overlap = data == "synthetic" and int(num_bags) > SLIDES // plan.seeds
            ratio = plan.num_test / int(num_bags) if overlap else None
            row |= difference(*(np.array(found[method][place]) for method in METHODS), ratio)
            rows.append(row | {"attention_on_planted": float(np.mean(found["attention_on_planted"][place]))})
    return sorted(rows, key=lambda row: (row["data"], row["tiles"], row["positive_tiles"], row["training_bags"]))


def difference(attention: Array, mean: Array, test_train_ratio: float | None) -> dict[str, float]:
    """Return attention minus mean and its 95% interval over seeds, corrected if seeds share training bags."""
    if test_train_ratio is not None:
        test = corrected_resampled_t_test(attention.tolist(), mean.tolist(), test_train_ratio)
        low, high = (test.difference, test.difference) if test.low is None else (test.low, test.high)
    else:
        low, high = stats.ttest_rel(attention, mean).confidence_interval()
    low, high = np.nan_to_num([low, high], nan=float((attention - mean).mean()))  # equal in all seeds
    return {"difference": float((attention - mean).mean()), "low": float(low), "high": float(high)}


def as_table(rows: Sequence[Mapping[str, Any]], plan: Plan, minutes: float) -> dict[str, Any]:
    """Return the file of the documentation: a row per share, a column per number of training bags, and how it was made."""
    record = made_by(["python", "scripts/when_attention_helps.py", *sys.argv[1:]], minutes)
    record |= {"seeds": list(range(plan.seeds)), "unit": "cell"}
    settings = {"num_features": NUM_FEATURES, "test_bags": plan.num_test, "epochs": plan.epochs}
    settings |= {"batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
    return {
        "title": "When attention beats the mean",
        **printed(rows, plan.seeds),
        "values": list(rows),
        "record": record | {"settings": settings},
    }


def printed(rows: Sequence[Mapping[str, Any]], num_seeds: int) -> dict[str, Any]:
    """Return the columns and rows of the page: differences with their intervals, in bold what is beyond chance."""
    numbers = sorted({row["training_bags"] for row in rows})
    words: dict[tuple[str, int, int], list[str | None]] = {}
    for row, p_value in zip(rows, adjusted_p_values(rows, num_seeds), strict=True):
        text = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        cells = words.setdefault((row["data"], row["tiles"], row["positive_tiles"]), [None] * len(numbers))
        cells[numbers.index(row["training_bags"])] = f"**{text}**" if p_value < 0.05 else text
    return {
        "columns": ["data", "positive tiles", *(f"{number} training bags" for number in numbers)],
        "rows": [[data, f"{count} of {size}", *cells] for (data, size, count), cells in words.items()],
    }


def adjusted_p_values(rows: Sequence[Mapping[str, Any]], num_seeds: int) -> list[float]:
    """Return the p-value of each difference by the t-test that gave its interval, adjusted for all of them (Holm 1979)."""
    half = stats.t.ppf(0.975, num_seeds - 1)
    p_values = []
    for row in rows:
        error = (row["high"] - row["low"]) / 2 / half
        # Without spread over seeds nothing is tested.
        p_values.append(float(2 * stats.t.sf(abs(row["difference"]) / error, num_seeds - 1)) if error > 0 else 1.0)
    return holm(p_values)


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the difference over the share: a line per number of training bags, a panel per data set and size of a bag."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams |= {"svg.hashsalt": "0", "font.size": 9}
    panels = list(dict.fromkeys((row["data"], row["tiles"]) for row in rows))
    all_numbers = sorted({row["training_bags"] for row in rows})
    figure, axes = plt.subplots(1, len(panels), figsize=(2.9 * len(panels), 3.2), sharey=True, squeeze=False)
    for axis, (data, size) in zip(axes[0], panels, strict=True):
        for shade, number in enumerate(all_numbers):
            line = [row for row in rows if (row["data"], row["tiles"], row["training_bags"]) == (data, size, number)]
            x = np.log2([row["positive_tiles"] / size for row in line]) + 0.07 * (shade - len(all_numbers) / 2)
            middle, low, high = (np.array([row[name] for row in line]) for name in ("difference", "low", "high"))
            colour = plt.get_cmap("viridis")(0.9 - 0.9 * shade / max(1, len(all_numbers) - 1))
            axis.errorbar(
                x, middle, [middle - low, high - middle], marker="o", markersize=3, color=colour, label=f"{number}"
            )
        axis.axhline(0, color="black", linewidth=0.8)
        powers = np.arange(-int(np.log2(size)), 0)
        axis.set_xticks(powers, [f"1/{2**-power}" for power in powers])
        axis.set(title=f"{data}, bags of {size}", xlabel="share of positive tiles")
    axes[0][0].set_ylabel("AUROC of attention minus that of the mean")
    axes[0][0].legend(title="training bags", frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def run(output: Path, mnist: Path | None, plan: Plan = PLAN, synthetic: bool = True) -> None:
    """Train what is not done yet, and write the table and the figure of all that is."""
    output.mkdir(parents=True, exist_ok=True)
    kept = output / "cells.json"
    cells = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    pools: dict[str, Callable[[], Pool]] = {"mnist": lambda: mnist_pool(Path(str(mnist)), plan)} if mnist else {}
    if synthetic:
        pools["synthetic"] = lambda: synthetic_pool(output, plan)
    for data, opened in pools.items():
        names = [f"{data}/{size}/{num_bags}" for num_bags in plan.num_bags[data] for size in plan.sizes]
        started = time.monotonic()
        pool = opened() if set(names) - set(cells) else None
        for name in names:
            if pool is not None and name not in cells:
                cells[name] = cell(pool, *map(int, name.split("/")[1:]), plan)
                now = time.monotonic()
                cells[name]["minutes"], started = (now - started) / 60, now
                write_json(kept, cells)
                sys.stdout.write(f"{name} is done\n")
                sys.stdout.flush()
    rows = summarise(cells, plan)
    minutes = round(sum(found["minutes"] for found in cells.values()), 1)
    write_json(output / "when_attention_helps.json", without_paths(as_table(rows, plan, minutes)))
    plot(rows, output / "when_attention_helps.svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of the results")
    parser.add_argument("--mnist", type=Path, help="mnist.npz or its folder; left out: drawn slides only")
    parser.add_argument("--only-mnist", action="store_true", help="leave out drawn slides")
    given = parser.parse_args()
    run(given.output, given.mnist, synthetic=not given.only_mnist)
