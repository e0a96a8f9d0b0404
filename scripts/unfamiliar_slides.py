"""Whether networks notice slides that they do not know: `python scripts/unfamiliar_slides.py --data shared --output work`.

Trains three small networks (GlaS and one provider of PANDA as frozen features; drawn slides), predicts what they were not
trained on, and prints how well the unfamiliarity tells it apart from test bags of their own kind.
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from milpath.data import PandaTiles
from milpath.data.store.store_build import open_or_build
from milpath.metrics.intervals import bootstrap_interval, wilson

SIZE = 128
# Tiles of an image: those with the most tissue of a grid, as many as there are.
NUM_TILES = 8
# GlaS shares patients between its published splits; these are by patient.
VALIDATION, TEST = {"9", "11", "3", "5"}, {"4", "10", "13", "15"}
# Few epochs at a higher rate: minutes on one core.
LESS = ("trainer.max_epochs=4", "optimizer.lr=5e-4")
CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "unchanged": lambda image: image,
    "blurred, sigma 1 px": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "blurred, sigma 3 px": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "stained otherwise, weak": lambda image: recoloured(image, (1.2, 0.85, 1.1)),
    "stained otherwise, strong": lambda image: recoloured(image, (1.5, 0.7, 1.3)),
    "hue turned to green": lambda image: turned(image, 90),
}


def recoloured(image: Image.Image, factors: tuple[float, float, float]) -> Image.Image:
    """Return an image whose optical density is multiplied channel by channel."""
    density = -np.log((np.asarray(image, np.float64) + 1) / 256)
    return Image.fromarray((256 * np.exp(-density * factors) - 1).clip(0, 255).round().astype(np.uint8))


def turned(image: Image.Image, steps: int) -> Image.Image:
    """Return an image with another hue; 256 steps are a full turn."""
    hue, saturation, value = image.convert("HSV").split()
    return Image.merge("HSV", (hue.point(lambda x: (x + steps) % 256), saturation, value)).convert("RGB")


def cut(image: Image.Image, folder: Path, name: str) -> None:
    """Write the tiles of an image with the most tissue."""
    places = [(x, y) for y in range(0, image.height - SIZE + 1, SIZE) for x in range(0, image.width - SIZE + 1, SIZE)]
    tiles = [image.crop((x, y, x + SIZE, y + SIZE)) for x, y in places]
    darkest = sorted(range(len(tiles)), key=lambda place: float(np.asarray(tiles[place]).mean()))[:NUM_TILES]
    folder.mkdir(parents=True, exist_ok=True)
    for number, place in enumerate(sorted(darkest)):
        tiles[place].save(folder / f"{name}_{number}.png")


def prepare(data: Path, work: Path) -> None:
    """Cut the images into folders of tiles, with tables of labels and splits."""
    with (data / "glas/labels.csv").open() as file:
        glas = list(csv.DictReader(file))
    splits, labels = [], []
    for row in glas:
        name = Path(row["image"]).stem.replace("_", "-")
        split = "val" if row["patient"] in VALIDATION else "test" if row["patient"] in TEST else "train"
        splits.append({"id": name, "split": split})
        labels.append({"image_id": name, "label": row["label"], "patient": row["patient"]})
        image = Image.open(data / "glas" / row["image"]).convert("RGB")
        cut(image, work / "glas", name)
        if split == "test":
            for number, change in enumerate(CHANGES.values()):
                cut(change(image), work / f"change{number}", name)
    pd.DataFrame(splits).to_csv(work / "glas_splits.csv", index=False)
    pd.DataFrame(labels).to_csv(work / "glas.csv", index=False)
    provider = pd.read_csv(data / "panda_meta/train.csv").set_index("image_id")["data_provider"]
    with (data / "panda_gleason_patches/labels.csv").open() as file:
        patches = [row for row in csv.DictReader(file) if row["augmented"] == "0"]
    rows: dict[str, list[dict[str, str]]] = {"karolinska": [], "radboud": []}
    for number, row in enumerate(patches):
        name, whose = f"patch{number}", str(provider[row["panda_image_id"]])
        rows[whose].append({"image_id": name, "label": str(int(row["label"] != "0")), "patient": row["panda_image_id"]})
        image = Image.open(data / "panda_gleason_patches" / row["image"]).convert("RGB")
        cut(image, work / whose, name)
        cut(image, work / "panda", name)
    for whose, table in rows.items():
        pd.DataFrame(table).to_csv(work / f"{whose}.csv", index=False)
    for path in (data / "panda_pixels/train").glob("*.png"):
        (work / "panda").mkdir(exist_ok=True)
        Image.open(path).convert("RGB").save(work / "panda" / path.name)


def halve(source: Path, folder: Path) -> None:
    """Write tiles at half the size, for a network of such tiles."""
    folder.mkdir(exist_ok=True)
    for path in source.glob("*.png"):
        with Image.open(path) as image:
            image.resize((SIZE // 2, SIZE // 2), Image.Resampling.LANCZOS).save(folder / path.name)


def milpath(work: Path, command: str, *words: str) -> None:
    """Run a command of this library."""
    print("milpath", command, *words, flush=True)
    subprocess.run([sys.executable, "-m", f"milpath.{command}", *words], cwd=work, check=True)


def train(work: Path) -> Iterator[str]:
    """Train the networks that are not there yet, and yield the name of each."""
    quiet = (  # an interrupted training is continued
        "resume_from=auto",
        "trainer.accelerator=cpu",
        "callbacks.progress=null",
        "logger=csv",
        "callbacks.early_stopping=null",
    )
    head = ("model=gated_attention_mil", "model/encoder=linear", "data.standardize=true", "trainer.max_epochs=15")
    glas = (
        "data.splits=glas_splits.csv",
        "data.target=label",
        "data.stratify_by=[]",
        "data.group_column=patient",
    )
    for name, count in (("glas", NUM_TILES), ("karolinska", 4)):
        if not (work / f"features_{name}/store.json").is_file():
            source = PandaTiles(work / name, work / f"{name}.csv", num_tiles=count, tile_size=SIZE)
            store = open_or_build(source, work / "stores")
            milpath(
                work, "extract", f"slides={store.path}", f"output=features_{name}", "encoder=efficientnet_lite0",
                "device=cpu",
            )  # fmt: skip
    runs = {
        "features": ("data=bag_store", "data.path=features_glas", *glas, *head),
        "provider": (
            "data=bag_store", "data.path=features_karolinska", "data.num_folds=4", "data.val_fraction=0.4",
            "data.target=label", "data.group_column=patient", *head,
        ),
        "drawn": ("data.num_slides=200", *LESS),
    }  # fmt: skip
    for name, words in runs.items():
        if not (work / "runs" / name / "report.html").is_file():
            milpath(work, "train", f"run_name={name}", *words, *quiet)
        yield name


def scores(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of a table of predictions, and which are above the bound; of a run those of its test bags."""
    table = pd.read_csv(path / "predictions.csv")
    if "split" in table:
        table = table[table["split"] == "test"]
    return table["unfamiliarity_score"].to_numpy(), table["unfamiliar"].to_numpy() == 1


def told_apart(known: np.ndarray, other: np.ndarray) -> str:
    """Return the AUROC of the score for other bags against known ones, with its bootstrap interval."""
    values, labels = np.concatenate([known, other]), np.repeat([0, 1], [len(known), len(other)])

    def area(weights: np.ndarray | None) -> np.ndarray:
        rows = np.ones((1, len(values))) if weights is None else np.atleast_2d(weights)
        wins = (other[:, None] > known) + 0.5 * (other[:, None] == known)
        ours, theirs = rows[:, labels == 1], rows[:, labels == 0]
        return np.squeeze(np.einsum("ri,ij,rj->r", ours, wins, theirs) / (ours.sum(1) * theirs.sum(1)))

    found = bootstrap_interval(partial(area), len(values))
    if found.low is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def shown(work: Path, run: str, others: dict[str, str]) -> None:
    """Predict other slides with a network and print a line for each."""
    known, above = scores(work / "runs" / run)
    line(run, "test split of its own data", known, above, "")
    for words, slides in others.items():
        output = f"predicted/{run}_{Path(slides).stem}"
        if not (work / output / "predictions.csv").is_file():
            milpath(
                work, "predict", f"checkpoint=runs/{run}/checkpoints/best.ckpt", f"slides={slides}", f"output={output}",
                "pictures=false", "device=cpu",
            )  # fmt: skip
        other, above = scores(work / output)
        line(run, words, other, above, told_apart(known, other))


def line(run: str, words: str, values: np.ndarray, above: np.ndarray, area: str) -> None:
    """Print a row of the table."""
    low, high = wilson(above.mean(), len(above))
    print(f"| {run} | {words} | {len(values)} | {area} | {above.mean():.0%} ({low:.0%} to {high:.0%}) |", flush=True)


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with glas, panda_gleason_patches, panda_pixels, slides"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for tiles, features and runs")
    options = parser.parse_args()
    work = options.output.resolve()
    if not (work / "glas.csv").is_file():
        prepare(options.data.resolve(), work)
    halve(work / "change0", work / "glas64")
    halve(work / "panda", work / "panda64")
    changes = {words: f"change{number}" for number, words in enumerate(CHANGES) if number}
    slide = str(options.data.resolve() / "slides/CMU-1-Small-Region.svs")
    others = {
        "features": {"PANDA": "panda", **changes},
        "provider": {"Radboud": "radboud", "GlaS": "change0"},
        "drawn": {"GlaS": "glas64", "PANDA": "panda64", "CMU-1, skin": slide},
    }
    for run in train(work):
        shown(work, run, others[run])


if __name__ == "__main__":
    main()
