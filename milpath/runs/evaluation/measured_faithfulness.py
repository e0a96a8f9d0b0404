"""Measurement of faithfulness on the bags of an evaluation, and its record."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from milpath.data.datamodule import BagDataModule
from milpath.data.loading.augmentation import TileAugmentation
from milpath.drawing.progress import track
from milpath.inference.faithfulness import MeasuredBag, MeasureOptions, measure_bags, question_of
from milpath.inference.faithfulness.measure_bags import AGREEMENTS
from milpath.models.card import Card
from milpath.models.network_input import takes
from milpath.records.data_warning import warning_in_words
from milpath.records.error_text import counted
from milpath.records.plain_values import brief
from milpath.reports.faithfulness import summarise
from milpath.runs.evaluation.held_out_bags import bags_of_networks, held_out_bags, kinds_of_pairs


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network whose attention is measured.

    Attributes:
        network: The network.
        card: Its card.
        path: Where it comes from, in words.
        sha256: Digest of its file.
    """

    network: nn.Module
    card: Card
    path: str
    sha256: str


def measure_faithfulness(
    networks: Sequence[MeasuredNetwork],
    datamodule: BagDataModule,
    splits: Sequence[str],
    options: MeasureOptions,
    *,
    explain: str | None = None,
    augmentation: str | None = None,
    max_bags: int | None = None,
    num_resamples: int = 1000,
    device: str | torch.device = "cpu",
    notes: Sequence[str] = (),
) -> tuple[list[MeasuredBag], dict[str, Any]]:
    """Return the measured bags of some splits and the record of all of them.

    Args:
        networks: The networks, with the same input and task.
        datamodule: The data, after `setup`.
        splits: Splits whose bags are measured.
        options: How bags are perturbed; the augmentation is found here.
        explain: As in `question_of`.
        augmentation: Kind of the augmentation of pixels; `None` is that of the training of the first network.
        max_bags: At most so many bags, drawn with the seed; `None` takes all.
        num_resamples: Bootstrap resamples of each interval.
        device: Device of the networks.
        notes: What else has to be said of these bags.

    Raises:
        ValueError: If there is no bag to measure, or an option does not fit.
    """
    started = time.perf_counter()
    frame = datamodule.label_frame
    tested = frame.loc[frame["split"].isin(list(splits)), "bag_id"].astype(str).tolist()
    if not tested:
        raise ValueError(f"splits={list(splits)} has no bags; the data have {', '.join(datamodule.splits)}")
    tiles_sha256 = str(datamodule.tile_store.description["sha256"])
    held_out = [held_out_bags(each.path, tiles_sha256) for each in networks]
    networks_of, notes_on_bags = bags_of_networks(held_out, tested, splits, set(frame["bag_id"].astype(str)))
    chosen = frame.loc[frame["bag_id"].astype(str).isin(networks_of)]
    # The note on the bags of the first network says nothing of those that others hold out.
    said = [*filter(None, notes if len(networks_of) == len(tested) else ()), *notes_on_bags]
    if max_bags is not None and max_bags < len(chosen):
        kept = np.sort(np.random.default_rng(options.seed).permutation(len(chosen))[:max_bags])
        said.append(
            f"{max_bags:,} of {counted(len(chosen), 'bag')} are measured (max_bags), drawn with seed {options.seed}"
        )
        chosen = chosen.iloc[kept]
    questions = [question_of(each.card, explain) for each in networks]
    if others := questions[0].others:
        said.append(f"{questions[0].name} is explained; explain=NAME explains another target: {', '.join(others)}")
    augment, left_out = _augmentation(networks[0], datamodule, augmentation)
    said += [left_out] if left_out else []
    found, store = [], datamodule.store
    measured = measure_bags(
        [each.network for each in networks], store, chosen["index"].tolist(), questions,
        replace(options, augment=augment), device=device, tile_labels=datamodule.tile_store.tile_labels,
        networks_of={int(row["index"]): networks_of[str(row["bag_id"])] for row in chosen.to_dict("records")},
        kinds=kinds_of_pairs(held_out),
    )  # fmt: skip
    for rows in track(measured, "bags measured", len(chosen)):
        found += rows
    num_bags = len({row.bag_id for row in found})
    if num_bags < len(chosen):
        said.append(f"{counted(len(chosen) - num_bags, 'bag')} of one tile cannot be taken apart and are left out")
    if (long := len({row.bag_id for row in found if row.num_tiles > options.max_passes})) > 0:
        said.append(
            f"{counted(long, 'bag')} with more than {options.max_passes:,} tiles (max_passes) lack occlusion and single tile"
        )
    record = summarise(found, questions[0], options, datamodule.split_groups, num_resamples)
    record |= {
        "networks": [{"path": each.path, "sha256": each.sha256} for each in networks],
        "splits": list(splits),
        "warning": warning_in_words(networks[0].card.warning, datamodule.warning),
        "notes": said,
        "seconds": round(time.perf_counter() - started, 1),
    }
    return found, record


def require_same_networks(networks: Sequence[MeasuredNetwork]) -> None:
    """Refuse networks that do not answer the same question about the same tiles.

    Raises:
        ValueError: If task, classes, tiles or encoder differ.
    """
    first = networks[0]
    wanted = _compared(first)
    for other in networks[1:]:
        for name, value in _compared(other).items():
            if value != wanted[name]:
                raise ValueError(
                    f"{other.path} has {name} {brief(value)}, but {first.path} has {brief(wanted[name])}; attention can be "
                    "compared between networks of one task on the same tiles"
                )


def _compared(measured: MeasuredNetwork) -> dict[str, Any]:
    card = measured.card
    return {
        "task": card.task,
        "class_names": list(card.class_names),
        "input": takes(measured.network),
        "tile_size": card.tiling.get("tile_size"),
        "encoder": card.encoder,
    }


def summary_lines(record: dict[str, Any]) -> list[str]:
    """Return a record in a few lines for a terminal: the verdict, each part, truth, agreement and notes."""
    lines = [record["verdict"]]
    for part in record["parts"]:
        gains = ", ".join(
            f"{name} {each['probability']['relevance_gain'][0]:.3f}" for name, each in part["orders"].items()
        )
        lines.append(f"{part['name']} ({part['num_bags']:,}): area between the curves {gains}")
    if record["truth"]:
        each = ", ".join(f"{name} {value['auroc'][0]:.3f}" for name, value in record["truth"].items())
        lines.append(f"tile AUROC: {each}")
    agreements = [("between networks", record["between"])]
    agreements += [(f"between networks {kind}", found) for kind, found in record["between_kinds"].items()]
    if difference := record["between_difference"]:
        agreements.append((f"of pairs {difference['words']}", difference))
    for title, found in [*agreements, ("with augmented tiles", record["augmented"])]:
        values = [
            f"{name} {found[name][0]:.3f}" for name in (*AGREEMENTS, "change") if found.get(name, [None])[0] is not None
        ]
        if values:
            lines.append(f"agreement of attention {title}: {', '.join(values)}")
    return [*lines, *record["notes"]]


def _augmentation(
    measured: MeasuredNetwork, datamodule: BagDataModule, kind: str | None
) -> tuple[Callable[[Tensor, torch.Generator], Tensor] | None, str]:
    """Return the augmentation of tiles, and why there is none."""
    trained = measured.card.data.get("augmentation")
    if takes(measured.network) != "tiles" or len(datamodule.store.tile_shape) != 3:
        if kind not in (None, "none"):
            raise ValueError(f"augmentation={kind} is for tiles, and the network takes features")
        return None, ""
    wanted = kind or (trained if isinstance(trained, str) else "none")
    if wanted == "none":
        line = "stability under augmentation is not measured: the network was trained without; augmentation=turns does"
        return None, "" if kind else line
    jitter = measured.card.data.get("stain_jitter")
    augment = TileAugmentation(wanted, float(jitter) if isinstance(jitter, int | float) else 0.1)
    return (lambda tiles, generator: augment(tiles, generator)), ""
