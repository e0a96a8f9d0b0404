"""A network and its card from one checkpoint, or from several folds as if they were one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from milpath.inference.ensemble.fold_checkpoints import fold_checkpoints
from milpath.inference.ensemble.pooled_validation import FoldRecord, PooledValidation, pool_validation, read_fold
from milpath.metrics.conformal import fit_conformal
from milpath.models.averaged_network import AveragedNetwork, require_average
from milpath.models.checkpoint import Card, load_card, load_network
from milpath.records.digests import sha256_of_file, sha256_of_values
from milpath.records.plain_values import brief
from milpath.targets import ClassTarget, target_of
from milpath.targets.decision import Decision, choose_decision

_DECISION = ("sensitivity", "calibrate", "defer_fraction", "coverage", "coverage_by_class")


@dataclass(frozen=True)
class Predictor:
    """What predicts: one network, or the folds of a cross-validation together.

    Attributes:
        network: The network; of several folds an `AveragedNetwork`.
        card: Its card; of several folds that of the first, with the operating point and the prediction sets of all.
        name: The checkpoint in words, for messages.
        sha256: Digest of the file, or of all files.
        folds: The record of each fold; empty for one checkpoint.
        validation: The pooled validation predictions; `None` for one checkpoint.
    """

    network: nn.Module
    card: Card
    name: str
    sha256: str
    folds: Sequence[FoldRecord] = ()
    validation: PooledValidation | None = None

    @property
    def note(self) -> str:
        """What was averaged and calibrated, in one line; empty for one checkpoint."""
        if self.validation is None:
            return ""
        return (
            f"average of {len(self.folds)} folds, calibrated on the {len(self.validation.bag_ids):,} validation bags of all "
            "folds, each predicted by a fold that was not trained on it"
        )

    def known_note(self, bag_ids: Sequence[str]) -> str:
        """Return how many of the predicted bags the folds were trained on, by their names; empty for one checkpoint.

        Args:
            bag_ids: Names of the predicted bags.
        """
        if self.validation is None or not (known := set(self.validation.bag_ids) & set(bag_ids)):
            return ""
        return (
            f"{len(known):,} of {len(bag_ids):,} have the names of bags that folds were trained on: their predictions are "
            "no test; the folds were tested in the table"
        )


def open_predictor(
    checkpoint: object,
    networks: Iterable[type[nn.Module]] = (),
    encoders: Iterable[type[nn.Module]] = (),
    *,
    method: str | None = None,
) -> Predictor:
    """Open a checkpoint, or several folds as one network.

    Probabilities are averaged after each fold's temperature, numbers in their units. Temperature, threshold, deferral and
    prediction sets of the average are fitted on the pooled validation predictions: each bag is predicted by the network of
    a fold that had it in its validation split, never by one that was trained on it, and never is a test split used. The
    average of all folds cannot be fitted on these bags, because most folds were trained on them.

    Args:
        checkpoint: A path, a list of paths, or the folder of `milpath table`.
        networks: Your own network classes.
        encoders: Your own encoder classes.
        method: The method, in the folder of a table with several.

    Raises:
        FileNotFoundError: If a checkpoint or its run folder does not exist.
        ValueError: If the folds differ in target, classes, encoder, tiles or in how their operating point is chosen, or
            their predictions cannot be averaged.
    """
    paths = fold_checkpoints(checkpoint, method)
    own_networks, own_encoders = list(networks), list(encoders)
    if len(paths) == 1:
        path = paths[0]
        network = load_network(path, own_networks, own_encoders)
        return Predictor(network, load_card(path), str(path), sha256_of_file(path))
    cards = [load_card(path) for path in paths]
    _require_alike(paths, [_compared(card) for card in cards])
    targets = [target_of(card) for card in cards]
    require_average(targets[0])
    folds = [read_fold(path) for path in paths]
    _require_alike(
        paths, [{f"decision.{name}": fold.settings.get(f"decision.{name}") for name in _DECISION} for fold in folds]
    )
    validation = pool_validation(folds)
    card = _calibrated(cards[0], folds[0].settings, validation)
    members = [load_network(path, own_networks, own_encoders) for path in paths]
    averaged = AveragedNetwork(members, targets, [each.temperature for each in cards]).eval()
    digest = sha256_of_values([sha256_of_file(path) for path in paths])
    return Predictor(averaged, card, f"{paths[0]} and {len(paths) - 1} more folds", digest, folds, validation)


def _compared(card: Card) -> dict[str, Any]:
    """Return what must be equal in all folds, in the order in which a difference is reported."""
    options = {name: value for name, value in card.target_state.items() if name not in ("mean", "scale")}
    return (
        {"task": card.task, "class_names": list(card.class_names), "warning": card.warning}
        | {f"target.{name}": value for name, value in options.items()}
        | {f"encoder.{name}": value for name, value in card.encoder.items()}
        | {f"tiling.{name}": value for name, value in card.tiling.items()}
    )


def _require_alike(paths: Sequence[Path], values: Sequence[Mapping[str, Any]]) -> None:
    """Refuse folds that differ, with the first difference."""
    for path, content in zip(paths[1:], values[1:], strict=True):
        for name in dict.fromkeys([*values[0], *content]):
            if (first := values[0].get(name)) != (other := content.get(name)):
                raise ValueError(
                    f"{path} has {name} {brief(other)}, but {paths[0]} has {brief(first)}; only folds of one training "
                    "configuration can be averaged"
                )


def _calibrated(card: Card, settings: Mapping[str, Any], validation: PooledValidation) -> Card:
    """Return the card with operating point and prediction sets fitted on the pooled validation predictions."""
    target, wished = target_of(card), {name: settings.get(f"decision.{name}") for name in _DECISION}
    for name, value in wished.items():  # a checkpoint is untrusted
        if value is not None and not isinstance(value, int | float):
            raise ValueError(f"decision.{name} in the record of the folds is {brief(value)}, which is not a number")
    answers = validation.answers
    decision = Decision()
    if isinstance(target, ClassTarget):
        if len(np.unique(validation.labels)) > 1:
            decision = choose_decision(
                validation.labels, answers, card.task, sensitivity=wished["sensitivity"],
                calibrate=bool(wished["calibrate"]), defer_share=float(wished["defer_fraction"] or 0),
            )  # fmt: skip
        elif wished["sensitivity"] is not None or wished["calibrate"]:
            raise ValueError(
                "the validation bags of all folds have one class, so that no threshold or temperature can be chosen; train "
                "with a larger data.val_fraction"
            )
        answers = target.at_temperature(answers, decision.temperature) if decision.temperature != 1 else answers
    state: dict[str, Any] = {}
    if wished["coverage"] is not None and target.set_kind is not None:
        if validation.groups is None and _grouped(card):
            raise ValueError(
                "the folds were split by group, but their splits.csv does not name the groups, which prediction sets need; "
                "train them again with this version"
            )
        fitted = fit_conformal(
            validation.labels, answers, target.set_kind, float(wished["coverage"]),
            bool(wished["coverage_by_class"]), validation.groups,
        )  # fmt: skip
        state = replace(fitted, aggregate=card.conformal.get("aggregate")).state()
    return replace(
        card,
        threshold=decision.threshold,
        temperature=decision.temperature,
        defer_below=decision.defer_below,
        conformal=state,
    )


def _grouped(card: Card) -> bool:
    """Return whether a run was split by group."""
    return bool(card.data.get("group_column") or card.data.get("groups"))
