"""A network and its card from one checkpoint, or from several folds as if they were one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from milpath.inference.ensemble.fold_checkpoints import fold_checkpoints
from milpath.inference.ensemble.pooled_validation import FoldRecord, PooledValidation, pool_validation, read_fold
from milpath.metrics.conformal import fit_cross_conformal
from milpath.models.averaged_network import AveragedNetwork
from milpath.models.checkpoint import Card, open_checkpoint
from milpath.models.familiarity import Familiarity, joined
from milpath.records.digests import sha256_of_file, sha256_of_values
from milpath.records.error_text import counted
from milpath.records.plain_values import brief
from milpath.targets import ClassTarget, Several, target_of
from milpath.targets.decision import Decision, choose_decision
from milpath.targets.set_parts import set_parts, state_of_sets

_DECISION = ("sensitivity", "calibrate", "defer_fraction", "coverage", "coverage_by_class", "refer_unfamiliar")


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
        familiarity: The models of familiar slides; `None` if the checkpoint, or one of the folds, has none.
    """

    network: nn.Module
    card: Card
    name: str
    sha256: str
    folds: Sequence[FoldRecord] = ()
    validation: PooledValidation | None = None
    familiarity: Familiarity | None = None

    @property
    def temperatures(self) -> Sequence[float]:
        """Temperature of each fold; empty for one checkpoint."""
        return self.network.temperatures if isinstance(self.network, AveragedNetwork) else ()

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

    Probabilities are averaged after each fold's temperature, numbers in their units, survival as curves; several targets
    each as by itself. Temperature, threshold and deferral of the average are fitted on the pooled validation predictions:
    each bag is predicted by the network of a fold that had it in its validation split, never by one that was trained on it,
    and never is a test split used. The average of all folds cannot be fitted on these bags, because most folds were trained
    on them. Prediction sets compare each fold's prediction with those of its own validation bags (`CrossConformal`).

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
        network, card = open_checkpoint(path, own_networks, own_encoders)
        return Predictor(network, card, str(path), sha256_of_file(path), familiarity=joined([card.familiar]))
    digests = [sha256_of_file(path) for path in paths]
    if twice := [path for number, path in enumerate(paths) if digests[number] in digests[:number]]:
        first = paths[digests.index(sha256_of_file(twice[0]))]
        raise ValueError(f"{twice[0]} is a copy of {first}; give each fold once")
    opened = [open_checkpoint(path, own_networks, own_encoders) for path in paths]
    members, cards = [network for network, _ in opened], [card for _, card in opened]
    _require_alike(paths, [_compared(card) for card in cards])
    targets = [target_of(card) for card in cards]
    target = targets[0].average_of(targets)
    folds = [read_fold(path) for path in paths]
    _require_alike(
        paths, [{f"decision.{name}": fold.settings.get(f"decision.{name}") for name in _DECISION} for fold in folds]
    )
    validation = pool_validation(folds, target)
    card = _calibrated(replace(cards[0], target_state=target.state()), folds, validation)
    averaged = AveragedNetwork(members, targets, [each.temperature for each in cards]).eval()
    digest = sha256_of_values(digests)
    name = f"the average of {paths[0]} and {counted(len(paths) - 1, 'other fold')}"
    familiarity = joined([each.familiar for each in cards])
    return Predictor(averaged, card, name, digest, folds, validation, familiarity)


def _compared(card: Card) -> dict[str, Any]:
    """Return what must be equal in all folds, in the order in which a difference is reported."""
    options = target_of(card).state_in_common(card.target_state)
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


def _calibrated(card: Card, folds: Sequence[FoldRecord], validation: PooledValidation) -> Card:
    """Return the card with operating point and prediction sets fitted on the validation predictions of all folds."""
    target, settings = target_of(card), folds[0].settings
    wished = {name: settings.get(f"decision.{name}") for name in _DECISION}
    for name, value in wished.items():  # a checkpoint is untrusted
        if value is not None and not isinstance(value, int | float):
            raise ValueError(f"decision.{name} in the record of the folds is {brief(value)}, which is not a number")
    answers, decision = validation.answers, Decision()
    chosen: dict[str, Any] = {
        "sensitivity": wished["sensitivity"],
        "calibrate": bool(wished["calibrate"]),
        "defer_share": float(wished["defer_fraction"] or 0),
    }
    if isinstance(target, ClassTarget):
        if len(np.unique(validation.labels)) > 1:
            decision = choose_decision(validation.labels, answers, card.task, **chosen)
        elif wished["sensitivity"] is not None or wished["calibrate"]:
            raise ValueError(
                "the validation bags of all folds have one class, so that no threshold or temperature can be chosen; train "
                "with a larger data.val_fraction"
            )
    elif isinstance(target, Several):
        card = replace(card, target_state=target.decided_on_answers(validation.labels, answers, **chosen).state())
    return replace(
        card,
        threshold=decision.threshold,
        temperature=decision.temperature,
        defer_below=decision.defer_below,
        conformal={}
        if wished["coverage"] is None
        else _sets(card, folds, wished["coverage"], bool(wished["coverage_by_class"])),
    )


def _sets(card: Card, folds: Sequence[FoldRecord], coverage: float, by_class: bool) -> dict[str, Any]:
    """Return the state of prediction sets of each target, from what each fold says of its own validation bags."""
    if _grouped(card) and not all(fold.groups or not fold.bag_ids for fold in folds):
        raise ValueError(
            "the folds were split by group, but their splits.csv does not name the groups, which prediction sets need; "
            "train them again with this version"
        )
    fitted, aggregate = {}, card.data.get("aggregate")
    for part in set_parts(target_of(card), card.class_names):
        sets = fit_cross_conformal(
            [fold.scores(part) for fold in folds], str(part.target.set_kind), float(coverage),
            by_class and part.target.has_classes, len(part.names),
        )  # fmt: skip
        fitted[part.name] = replace(sets, aggregate=None if aggregate is None else str(aggregate))
    return state_of_sets(fitted) if fitted else {}


def _grouped(card: Card) -> bool:
    """Return whether bags of one group were kept together, and are not the groups themselves."""
    return not card.data.get("aggregate") and bool(card.data.get("group_column") or card.data.get("groups"))
