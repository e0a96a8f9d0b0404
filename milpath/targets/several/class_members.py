"""What the targets with classes among several decide, and how predictions are said."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from milpath.targets.decision import choose_decision
from milpath.targets.numeric_target import NumericTarget
from milpath.targets.several.member import Member
from milpath.targets.target import Array, ClassTarget


def choose_member_decision(
    member: Member,
    logits: NDArray[np.float32] | None,
    labels: Array,
    sensitivity: float | None,
    calibrate: bool,
    defer_share: float,
    answers: Array | None = None,
) -> Member:
    """Return a member with the decision chosen on the validation bags that have its label; numbers decide nothing.

    A sensitivity is that of each target with a threshold. With labels of a single class, or none, the decision stays as it
    is. It is chosen from logits, or from probabilities at temperature 1 where there are no logits.

    Raises:
        ValueError: If a sensitivity or a temperature is asked and there are no two classes.
    """
    target = member.target
    if not isinstance(target, ClassTarget):
        return member
    rows, known = member.known(labels)
    wished = sensitivity if target.has_threshold else None
    if len(np.unique(known)) < 2:
        if wished is not None or calibrate:
            raise ValueError(
                f"decision.sensitivity and decision.calibrate are chosen on the validation split, whose {len(rows):,} bags "
                f"with a label of the target {member.name!r} are of {len(np.unique(known))} classes; set data.val_fraction, "
                "or remove these options"
            )
        return member
    own = None if logits is None else torch.from_numpy(np.ascontiguousarray(logits[rows]))

    def scaled(temperature: float) -> Array:
        if own is None:
            assert answers is not None
            return target.at_temperature(answers[rows], temperature)
        return np.asarray(target.probabilities(own, temperature).numpy(), dtype=np.float64)

    decision = choose_decision(
        known, scaled(1.0), target.name, sensitivity=wished, calibrate=calibrate, defer_share=defer_share,
        at_temperature=scaled,
    )  # fmt: skip
    return replace(member, decision=decision)


def defined_of_classes(member: Member, labels: NDArray[np.int64]) -> list[str]:
    """Return the metrics of a target with classes that are defined on some labels."""
    uniform = np.full((len(labels), len(member.class_names)), 1 / len(member.class_names))
    values = member.target.metrics(member.target.evaluate(labels, uniform))
    return [name for name, value in values.items() if value is not None]


def answers_in_words(member: Member, answers: Array) -> list[tuple[str, str]]:
    """Return title and text of the predictions of one bag, `(1, answer columns)`."""
    if isinstance(member.target, NumericTarget):
        return [(_titled(member, title), text) for title, text in member.target.say(answers[0])]
    calls = member.calls(np.asarray(answers, dtype=np.float64))
    assert calls is not None
    called = member.class_names[calls.predicted[0]] + (", refer to a person" if calls.deferred[0] else "")
    shares = zip(member.class_names, np.ravel(answers).tolist(), strict=True)
    return [
        (member.name, called),
        *((f"{member.name}: probability of {name}", f"{share:.1%}") for name, share in shares),
    ]


def label_in_words(member: Member, labels: Array) -> str:
    """Return the label of one bag, `(1, label columns)`, as a short text; empty if it is missing."""
    rows, known = member.known(labels)
    if not len(rows):
        return ""
    if not isinstance(member.target, NumericTarget):
        return member.class_names[int(known[0])]
    columns = member.target.label_columns
    named = zip(columns, known[0].tolist(), strict=True)
    return ", ".join(f"{value:.5g}" if len(columns) == 1 else f"{name} {value:.5g}" for name, value in named)


def answer_in_words(member: Member, answers: Array) -> str:
    """Return the prediction of one bag, `(1, answer columns)`, as a short text."""
    if isinstance(member.target, NumericTarget):
        said = member.target.say(answers[0])
        return said[0][1] if len(said) == 1 else ", ".join(f"{title} {text}" for title, text in said)
    calls = member.calls(np.asarray(answers, dtype=np.float64))
    assert calls is not None
    share = float(answers[0, calls.predicted[0]])
    return f"{member.class_names[calls.predicted[0]]} ({share:.0%}{', deferred' if calls.deferred[0] else ''})"


def _titled(member: Member, title: str) -> str:
    """Return the title of a number with the name of its target, unless they are the same."""
    return title if title == member.name else f"{member.name}: {title}"
