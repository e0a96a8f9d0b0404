"""The models of familiar slides of one network or of the folds of an average, as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.models.familiarity.familiar_slides import LEAST_BAGS, TIE, FamiliarSlides, bound_of
from milpath.records.data_warning import unfamiliar_cells

Array = NDArray[np.float64]


class Unfamiliarity(NamedTuple):
    """How unfamiliar bags are.

    Attributes:
        score: `(bags,)`: spreads of validation bags above their median.
        percent: `(bags,)`: percent of the validation bags that are less unfamiliar.
        above: bool `(bags,)`: above the bound, to be referred to a person; `None` without a bound.
        tiles: For each bag `(tiles,)`, percent of the validation tiles that are less unfamiliar; empty if not asked for.
    """

    score: Array
    percent: Array
    above: NDArray[np.bool_] | None
    tiles: Sequence[NDArray[np.float32]] = ()

    def table(self) -> Array:
        """Return the columns `UNFAMILIAR_COLUMNS` of all bags, `(bags, 3)`."""
        above = np.full(len(self.score), np.nan) if self.above is None else self.above.astype(np.float64)
        return np.stack([above, self.percent, self.score], axis=1)

    def cells(self, row: int) -> list[str]:
        """Return the cells of a bag in the columns `UNFAMILIAR_COLUMNS`."""
        return unfamiliar_cells(self.table()[row])


@dataclass(frozen=True)
class Familiarity:
    """Models of familiar slides, one per network.

    The score of a bag is the mean over the networks; it is compared with the validation bags of all of them, each of which
    was scored by the network that had it in its validation split. A mean varies less than one score, so that the bound of
    an average refers familiar bags more rarely than it may.

    Attributes:
        models: One per network.
    """

    models: Sequence[FamiliarSlides]

    @property
    def scores(self) -> Array:
        """Scores of all validation bags in ascending order."""
        return np.sort(np.concatenate([model.scores.double().numpy() for model in self.models])).round(4)

    @property
    def bound(self) -> float | None:
        """Score above which a bag is unfamiliar; `None` without one."""
        refer = [model.refer for model in self.models]
        return None if None in refer else bound_of(self.scores, min(share for share in refer if share is not None))

    def judge(self, distances: Array) -> Unfamiliarity:
        """Return how unfamiliar bags are, from their distances `(bags, networks, 2)`."""
        scores = np.mean([model.score(distances[:, place]) for place, model in enumerate(self.models)], axis=0).round(4)
        known, bound = self.scores, self.bound
        percent = 100 * np.searchsorted(known, scores - TIE, "left") / len(known)
        return Unfamiliarity(scores, percent, None if bound is None else scores > bound + TIE)

    def tile_percent(self, distances: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return for each tile the percent of validation tiles that are closer, from `(networks, tiles)`."""
        rows = [model.tile_percent(row) for model, row in zip(self.models, distances, strict=True)]
        found: NDArray[np.float32] = np.mean(rows, axis=0).astype(np.float32)
        return found

    def say(self, values: Array) -> str:
        """Return sentences on one bag for people, from its columns `UNFAMILIAR_COLUMNS`."""
        above, percent, _ = values
        count = len(self.scores)
        said = f"More unfamiliar than {percent:.3g}% of the {count:,} validation bags of this network."
        return f"{said} It does not know slides like this one: refer it to a person." if above == 1 else said

    def say_bound(self) -> str:
        """Return a sentence on the bound for people: what it is, and how many familiar bags it refers."""
        known, bound = len(self.scores), self.bound
        if all(model.refer is None for model in self.models):
            return "no bag is referred for being unfamiliar (decision.refer_unfamiliar=null)"
        if bound is None:
            return (
                f"no bag is referred for being unfamiliar: a bound needs at least {LEAST_BAGS} validation bags, and there "
                f"are {known}"
            )
        above = int((self.scores >= bound).sum())
        which = "all" if above == 1 else f"all but the {above - 1} most unfamiliar"
        rule = f"a bag that is more unfamiliar than {which} of the {known:,} validation bags is referred to a person"
        if 0 < (groups := sum(model.num_groups for model in self.models)) < known:
            few = f"the validation bags are of only {groups} groups"
            return f"{rule}; of bags of new groups, such as patients, an unknown share: {few}"
        return f"{rule}; of bags like them, about {max(1, above)} in {known + 1:,}"


def joined(models: Sequence[FamiliarSlides | None]) -> Familiarity | None:
    """Return the models of networks as one; `None` if one of the networks has none."""
    found = [model for model in models if model is not None]
    return Familiarity(found) if found and len(found) == len(models) else None


def say_unknown() -> str:
    """Return a line for checkpoints without a model of familiar slides."""
    return "this checkpoint has no model of familiar slides: it cannot say whether it knows slides like these"
