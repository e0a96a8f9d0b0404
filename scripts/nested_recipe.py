"""The recipe of the classic sets, chosen anew for each outer fold on its training bags alone:

    python scripts/nested_recipe.py DATA ANCHOR OUTPUT REPEATS [OVERRIDE...]

e.g. data/mil_classic docs/tables/classic_anchor nested 2 jobs=2. DATA holds musk1.npz, tiger.npz and fox.npz, ANCHOR is the
output of `scripts/classic_anchor.py`.

For each pair (i, j) of the ten folds of a repeat, each candidate is trained on the other eight and tested on both. For the
outer fold i, a candidate's inner accuracy is that of its networks of all pairs with i on the bags of the other fold of
the pair: nine networks, which together see each training bag of i once and no bag of i ever. The candidate with the
highest mean inner accuracy of the three sets, one for all three, is then trained on the nine training folds and tested
on fold i. Equal candidates: the first in `CANDIDATES`.

Writes OUTPUT/nested_recipe.json for `docs/tables`, with a paired test against the authors' recipe on the same folds (Nadeau
and Bengio). Running it again continues.
"""

import csv
import json
import subprocess
import sys
import time
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from classic_anchor import FOLDS, folds_of
from classic_comparison import compared, folds_of_table
from results_page.kept_tables import keep
from results_page.script_record import made_by

SETS = ("musk1", "tiger", "fox")
PAIRS = list(combinations(range(FOLDS), 2))
METHOD = "attention_ensemble"
CANDIDATES = {
    f"layers_{'_'.join(map(str, widths))}-clip_{clip}-epochs_{epochs}": (
        f"model.encoder.hidden_dims=[{','.join(map(str, widths))}]",
        f"model.encoder.clip={clip}",
        f"trainer.max_epochs={epochs}",
    )
    for widths, clip, epochs in product(([64], [128, 64]), ("3.0", "null"), (40, 20))
}
FIXED = next(iter(CANDIDATES))  # the recipe of the experiments


def write_pairs(path: Path, folds: dict[str, int]) -> None:
    """Write one split for each pair of folds: both are tested, the others train, and nothing validates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["fold", "id", "split"])
        for number, pair in enumerate(PAIRS):
            writer.writerows([number, bag, "test" if fold in pair else "train"] for bag, fold in folds.items())


def train(name: str, data: str, output: Path, *words: str) -> Path:
    """Train all folds of a table that are missing, and return its folder."""
    if (output / "table.json").is_file():  # written last
        return output
    command = [sys.executable, "-m", "milpath.table", f"experiment={name}", f"methods=[{METHOD}]", f"output={output}"]
    subprocess.run([*command, f"data.path={data}", *words], check=True, stdout=subprocess.DEVNULL)
    return output


def inner_accuracies(table: Path, folds: dict[str, int]) -> np.ndarray:
    """Return, for each outer fold, the accuracy of the networks that never saw it on its training bags."""
    right: list[list[bool]] = [[] for _ in range(FOLDS)]
    for number, pair in enumerate(PAIRS):
        with (table / f"runs/{METHOD}/repeat_0/fold_{number}/predictions.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                if row["split"] == "test":
                    fold = folds[row["id"]]
                    outer = pair[0] if fold == pair[1] else pair[1]
                    right[outer].append(row["predicted"] == row["label"])
    counts = [len(answers) for answers in right]
    expected = [len(folds) - list(folds.values()).count(fold) for fold in range(FOLDS)]
    if counts != expected:
        raise ValueError(f"{table} has {counts} inner answers, expected {expected}")
    return np.array([np.mean(answers) for answers in right])


def main(data: str, anchor: str, output: str, repeats: str, *words: str) -> None:
    root, count, began = Path(output), int(repeats), time.monotonic()
    resumed = root.is_dir()
    inner = np.zeros((count, len(SETS), len(CANDIDATES), FOLDS))
    for repeat, (row, name) in product(range(count), enumerate(SETS)):
        path = f"{data}/{name}.npz"
        folds = folds_of(name, path, repeat)
        pairs = root / f"pairs/{name}_{repeat}.csv"
        write_pairs(pairs, folds)
        fixed = (f"data.splits={pairs.resolve()}", f"folds={len(PAIRS)}", "repeats=1", f"seed={repeat * len(PAIRS)}")
        for column, (candidate, options) in enumerate(CANDIDATES.items()):
            table = train(name, path, root / f"inner/{name}_{repeat}/{candidate}", *fixed, *options, *words)
            inner[repeat, row, column] = inner_accuracies(table, folds)
            print(name, repeat, candidate, inner[repeat, row, column].mean().round(4), flush=True)
    wanted = {*chosen_in(inner).ravel().tolist(), list(CANDIDATES).index(FIXED)}
    outer = np.full((len(SETS), len(CANDIDATES), count, FOLDS), np.nan)
    for (row, name), (column, (candidate, options)) in product(enumerate(SETS), enumerate(CANDIDATES.items())):
        if column not in wanted:
            continue
        fixed = (f"folds={FOLDS}", f"repeats={count}", "seed=0")
        table = train(name, f"{data}/{name}.npz", root / f"outer/{name}/{candidate}", *fixed, *options, *words)
        outer[row, column] = folds_of_table(table, METHOD).reshape(count, FOLDS)
    files = [Path(anchor) / f"{name}_attention.json" for name in SETS]
    authors = np.array([json.loads(file.read_text())["accuracies"][: count * FOLDS] for file in files])
    minutes = round((time.monotonic() - began) / 60, 1)
    table = table_of(inner, outer, authors)
    made = made_by(["python", "scripts/nested_recipe.py", *sys.argv[1:]], minutes)
    made |= {"minutes": None if resumed else minutes, "seeds": list(range(count)), "unit": "outer fold"}
    table["record"] = made
    keep(table, root / "nested_recipe.json")


def chosen_in(inner: np.ndarray) -> np.ndarray:
    """Return the candidate that each outer fold chooses, `(repeats, folds)`, from `(repeats, sets, candidates, folds)`."""
    return np.asarray(inner.mean(1).argmax(1))


def table_of(inner: np.ndarray, outer: np.ndarray, authors: np.ndarray) -> dict[str, Any]:
    """Return what is published.

    Args:
        inner: `(repeats, sets, candidates, folds)` inner accuracies.
        outer: `(sets, candidates, repeats, folds)` accuracies on the outer folds; NaN for candidates that none chose.
        authors: `(sets, repeats * folds)` accuracies of the authors' recipe on these.
    """
    chosen = chosen_in(inner)
    repeats, folds = np.indices(chosen.shape)
    nested = outer[:, chosen, repeats, folds].reshape(len(SETS), -1)
    fixed = outer[:, list(CANDIDATES).index(FIXED)].reshape(len(SETS), -1)
    values = {name: (nested[row], fixed[row], authors[row]) for row, name in enumerate(SETS)}
    values["average"] = (nested.mean(0), fixed.mean(0), authors.mean(0))
    rows = []
    for name, (ours, recipe, theirs) in values.items():
        test = compared(ours, theirs)
        cells = [f"{each.mean():.3f} ± {each.std(ddof=1) / len(each) ** 0.5:.3f}" for each in (ours, recipe, theirs)]
        interval = f"{test['difference']:.3f} ({test['low']:.3f} to {test['high']:.3f})"
        rows.append([name, chosen.size, *cells, interval, test["p_value"]])
    return {
        "title": "The recipe of the classic sets, chosen for each outer fold",
        "columns": [
            "set", "outer folds", "chosen on training folds", "fixed recipe", "authors' recipe", "first minus third", "p",
        ],
        "rows": rows,
        "candidates": {
            name: {
                "inner": dict(zip(SETS, inner[:, :, column].mean((0, 2)).round(4).tolist(), strict=True)),
                "chosen": int((chosen == column).sum()),
            }
            for column, name in enumerate(CANDIDATES)
        },
        "accuracies": {name: ours.round(5).tolist() for name, (ours, _, _) in values.items()},
    }  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
