"""The quantity whose change is watched while tiles are removed: the predicted class, or a number, of a bag."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from milpath.models.checkpoint import Card
from milpath.targets import ClassTarget, NumericTarget, Regression, Several, Survival, Target, target_of

# Smallest probability whose logarithm is taken, in float64.
_TINY = 1e-300


class Explained(NamedTuple):
    """What is explained of one bag.

    Attributes:
        words: The class, or the side of the reference on which the number lies.
        place: Class, or column of the predicted numbers.
        sign: 1, or -1 for a number below the reference, whose distance from it is watched.
        towards_positive: 1 if a higher value speaks for positive tiles, -1 if it speaks against them: for the first class,
            and for numbers below the reference.
    """

    words: str
    place: int
    sign: float
    towards_positive: float


@dataclass(frozen=True)
class Question:
    """What of a network's answers is explained.

    Attributes:
        name: Name of one of several targets; empty if there is only one.
        position: Its position among them.
        target: The target.
        outputs: Its logits among those of the network.
        class_names: Names of its classes or numbers.
        threshold: Operating point of a binary target.
        temperature: Divides the logits of classes.
        chosen: The class that is always explained, or the column of numbers; `None` for the predicted class.
        reference: Number from which the distance is watched.
        unit: Unit of the number; empty if unknown or without one.
        others: Names of the other targets, which are not explained.
    """

    name: str
    position: int
    target: Target
    outputs: slice
    class_names: tuple[str, ...]
    threshold: float = 0.5
    temperature: float = 1.0
    chosen: int | None = None
    reference: float = 0.0
    unit: str = ""
    others: tuple[str, ...] = ()

    @property
    def of_classes(self) -> bool:
        """Whether the probability of a class is watched."""
        return isinstance(self.target, ClassTarget)

    @property
    def quantity(self) -> str:
        """The watched value in words."""
        prefix = f"{self.name}: " if self.name else ""
        if self.of_classes:
            of = "the predicted class" if self.chosen is None else self.class_names[self.chosen]
            return f"{prefix}probability of {of}"
        number = self.class_names[self.chosen or 0]
        return f"{prefix}distance of {number} from {self.reference:.4g}" + (f" [{self.unit}]" if self.unit else "")

    def explained(self, logits: Tensor) -> Explained:
        """Return what is explained of a bag with these logits, `(1, num_outputs)`, in its predicted direction."""
        answers = self._answers(logits).detach().cpu().numpy()
        if isinstance(self.target, ClassTarget):
            place = self.chosen
            if place is None:
                place = int(self.target.predicted_classes(answers, self.threshold)[0])
            return Explained(self.class_names[place], place, 1.0, -1.0 if place == 0 else 1.0)
        place = self.chosen or 0
        above = bool(answers[0, place] >= self.reference)
        words = f"{self.class_names[place]} {'above' if above else 'below'} {self.reference:.4g}"
        sign = 1.0 if above else -1.0
        return Explained(words, place, sign, sign)

    def values(self, logits: Tensor, explained: Explained) -> Tensor:
        """Return probability and log-odds of the class, or twice the distance of the number, float64 `(bags, 2)`.

        Args:
            logits: `(bags, num_outputs)`; the result can be differentiated.
            explained: From `explained`.
        """
        answers = self._answers(logits)
        chosen = answers[:, explained.place]
        if not self.of_classes:
            distance = explained.sign * (chosen - self.reference)
            return torch.stack([distance, distance], dim=1)
        # The sum of the others keeps the digits that 1 - p loses.
        others = torch.cat([answers[:, : explained.place], answers[:, explained.place + 1 :]], dim=1).sum(1)
        return torch.stack([chosen, chosen.clamp_min(_TINY).log() - others.clamp_min(_TINY).log()], dim=1)

    def _answers(self, logits: Tensor) -> Tensor:
        return self.target.answers(logits[:, self.outputs].double(), self.temperature)


def question_of(card: Card, explain: str | None = None) -> Question:
    """Return what is explained of the answers of a checkpoint.

    Args:
        card: Its card.
        explain: A class or a predicted number; of several targets the name of one, or `TARGET/CLASS`. `None` explains the
            predicted class, or the first number, of the first target.

    Raises:
        ValueError: If there is no such target, class or number.
    """
    target = target_of(card)
    if not isinstance(target, Several):
        return _question(Question(
            "", 0, target, slice(None), tuple(card.class_names), card.threshold, card.temperature
        ), explain)  # fmt: skip
    names = [member.name for member in target.members]
    wanted, _, inner = (explain or names[0]).partition("/")
    if wanted not in names:
        raise ValueError(f"explain={explain} names none of the targets of the checkpoint: {', '.join(names)}")
    place = names.index(wanted)
    member = target.members[place]
    start = int(np.sum([each.num_outputs for each in target.members[:place]], dtype=np.int64))
    question = Question(
        member.name, place, member.target, slice(start, start + member.num_outputs), tuple(member.class_names),
        member.decision.threshold, member.decision.temperature, others=tuple(name for name in names if name != wanted),
    )  # fmt: skip
    return _question(question, inner or None)


def _question(question: Question, explain: str | None) -> Question:
    """Return a question with the chosen class or number, and the reference of a number."""
    target, names = question.target, question.class_names
    if isinstance(target, NumericTarget):
        names = target.names
        question = replace(question, class_names=tuple(names))
    chosen = None
    if explain is not None:
        if explain not in names:
            raise ValueError(f"explain={explain} is not one of {', '.join(names)}")
        chosen = list(names).index(explain)
    if isinstance(target, NumericTarget):
        chosen = chosen or 0
        reference = 0.0
        if isinstance(target, Regression) and target.mean is not None:
            reference = float(target.mean[chosen])
        elif isinstance(target, Survival) and target.risk_cut is not None:
            reference = target.risk_cut
        return replace(question, chosen=chosen, reference=reference, unit=target.units[chosen])
    return replace(question, chosen=chosen)
