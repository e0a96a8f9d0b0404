"""The authors' recipe for the classic sets, on the folds of `milpath table`:

    python scripts/classic_anchor.py DATA OUTPUT [SET...]

Written from the article and its public code (github.com/AMLab-Amsterdam/AttentionDeepMIL), independently of milpath's
networks and training: linear layers 256-128-64 with ReLU and dropout 0.5, attention 64 with tanh (or gated), one bag
per step, Glorot's initialisation with biases of 0, SGD with momentum 0.9 and the article's rates and weight decay for
each set, 100 epochs. As in the code there is no validation split and the last weights are tested. The article stops
at the lowest validation error + loss and does not say which bags it validates on. Features are standardised on the
training bags of each fold (the article: on the whole set). The ten folds of a repeat are trained side by side with
the same order of bags; a step on a bag changes only the nine networks that train on it.

Writes OUTPUT/SET_METHOD.json with the accuracy of each fold.
"""

import sys
import time
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from milpath.data.sources.classic_mil import Instances, read_instances
from milpath.records.atomic_files import write_json
from milpath.runs.build import build_training_data
from milpath.search.composition import compose_training

# Learning rate and weight decay of each set; quoted from memory of the article's supplement.
RECIPES = {
    "musk1": (5e-4, 5e-3), "musk2": (5e-4, 3e-2), "fox": (5e-4, 5e-3), "tiger": (1e-4, 1e-2), "elephant": (1e-4, 5e-3),
}  # fmt: skip
WIDTHS, ATTENTION, EPOCHS, FOLDS, REPEATS = (256, 128, 64), 64, 100, 10, 5


class Networks:
    """The networks of all folds of a repeat."""

    def __init__(self, used: Tensor, gated: bool, numbers: torch.Generator) -> None:
        self.gated = gated
        self.weights: dict[str, Tensor] = {}
        widths = (len(used), *WIDTHS)
        for name, a, b in [
            *((f"embed{n}", a, b) for n, (a, b) in enumerate(pairwise(widths))),
            ("tanh", WIDTHS[-1], ATTENTION), *([("gate", WIDTHS[-1], ATTENTION)] if gated else []),
            ("score", ATTENTION, 1), ("class", WIDTHS[-1], 1),
        ]:  # fmt: skip
            reach = (6 / (a + b)) ** 0.5
            self.weights[name] = (torch.rand(FOLDS, a, b, generator=numbers) * 2 - 1) * reach
            self.weights[f"{name}.bias"] = torch.zeros(FOLDS, 1, b)
        # A constant feature is 0 once it is standardised, whatever its weights.
        self.weights["embed0"] = self.weights["embed0"][:, used].contiguous()
        for value in self.weights.values():
            value.requires_grad_(True)

    def layer(self, name: str, values: Tensor) -> Tensor:
        return torch.baddbmm(self.weights[f"{name}.bias"], values, self.weights[name])

    def logits(self, bag: Tensor, numbers: torch.Generator | None = None) -> Tensor:
        """Return the logit `(folds,)` of one bag `(folds, instances, features)`; with a generator, dropout is on."""
        hidden = bag
        for number in range(len(WIDTHS)):
            hidden = F.relu(self.layer(f"embed{number}", hidden))
            if numbers is not None:
                hidden = hidden * (torch.rand(hidden.shape, generator=numbers) < 0.5) * 2
        scores = torch.tanh(self.layer("tanh", hidden))
        if self.gated:
            scores = scores * torch.sigmoid(self.layer("gate", hidden))
        attention = self.layer("score", scores).softmax(1)
        return self.layer("class", attention.transpose(1, 2) @ hidden)[:, 0, 0]


def train(instances: Instances, folds: np.ndarray, gated: bool, rates: tuple[float, float], seed: int) -> list[float]:
    """Return the accuracy on each fold of a repeat.

    Args:
        instances: The set.
        folds: `(bags,)`, the fold that tests a bag.
        gated: Whether the attention is gated.
        rates: Learning rate and weight decay.
        seed: Seed of the weights, the order of bags and the dropout.
    """
    numbers, order = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    features = torch.from_numpy(instances.features).float()
    rows = [np.flatnonzero(instances.bags == bag) for bag in np.unique(instances.bags)]
    labels = torch.tensor([float(instances.labels[row[0]]) for row in rows])
    scaled = []
    for fold in range(FOLDS):
        of_training = features[np.isin(instances.bags, np.unique(instances.bags)[folds != fold])]
        scaled.append((features - of_training.mean(0)) / (of_training.std(0, correction=0) + 1e-6))
    used = features.std(0) > 0
    bags = [torch.stack([values[row][:, used] for values in scaled]) for row in rows]
    networks = Networks(used, gated, numbers)
    weights = list(networks.weights.values())
    speeds = [torch.zeros_like(value) for value in weights]
    lr, decay = rates
    for _ in range(EPOCHS):
        for bag in order.permutation(len(bags)).tolist():
            losses = F.binary_cross_entropy_with_logits(
                networks.logits(bags[bag], numbers), labels[bag].expand(FOLDS), reduction="none"
            )
            gradients = torch.autograd.grad(losses.sum(), weights)
            with torch.no_grad():
                # All folds but the one that tests this bag, in at most two runs of neighbours.
                for part in (slice(0, folds[bag]), slice(folds[bag] + 1, FOLDS)):
                    now = [value[part] for value in weights]
                    speed = [value[part] for value in speeds]
                    torch._foreach_mul_(speed, 0.9)
                    torch._foreach_add_(speed, [value[part] for value in gradients])
                    torch._foreach_add_(speed, now, alpha=decay)
                    torch._foreach_add_(now, speed, alpha=-lr)
    with torch.no_grad():
        answers = torch.stack([networks.logits(bag) > 0 for bag in bags], 1)
    right = (answers == labels.bool()).numpy()
    return [float(right[fold, folds == fold].mean()) for fold in range(FOLDS)]


def folds_of(name: str, path: str, repeat: int) -> dict[str, int]:
    """Return the fold that tests each bag, as in `milpath table`, in the order of the bags."""
    folds: dict[str, int] = {}
    for fold in range(FOLDS):
        chosen = {"data.path": path, "data.num_folds": FOLDS, "data.fold": fold, "data.split_seed": repeat}
        words = (f"experiment={name}", *(f"{key}={value}" for key, value in chosen.items()))
        data = build_training_data(compose_training(words))
        data.setup("fit")
        table = data.splits_table()
        folds = folds or dict.fromkeys(table["id"], -1)
        folds |= dict.fromkeys(table.loc[table["split"] == "test", "id"], fold)
    return folds


def main(path: str, output: str, *names: str) -> None:
    torch.set_num_threads(1)
    for method, name in product(("attention", "gated_attention"), names or RECIPES):
        file, target = Path(path) / f"{name}.npz", Path(output) / f"{name}_{method}.json"
        if target.is_file() or not file.is_file():
            print(f"{name} {method}: {'done' if target.is_file() else f'no {file}'}", flush=True)
            continue
        began, accuracies = time.monotonic(), []
        for repeat in range(REPEATS):
            folds = np.array(list(folds_of(name, path, repeat).values()))
            accuracies += train(read_instances(file), folds, method == "gated_attention", RECIPES[name], repeat)
            print(name, method, f"repeat {repeat}: {np.mean(accuracies):.4f}", flush=True)
        lr, decay = RECIPES[name]
        record = {
            "set": name, "method": method, "epochs": EPOCHS, "lr": lr, "weight_decay": decay, "accuracies": accuracies,
            "minutes": round((time.monotonic() - began) / 60, 1),
        }  # fmt: skip
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(target, record)


if __name__ == "__main__":
    main(*sys.argv[1:])
