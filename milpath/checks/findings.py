"""What checks of data found: findings in words, and the pairs of slides behind them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.records.error_text import counted, visible

# From what invalidates a result to what could not be looked at.
LEVELS = {
    "leak": "the same slide or patient on two sides of the split",
    "look": "probably wrong, or a label that follows something that is no tissue: look at the examples",
    "note": "worth knowing",
    "ok": "looked for and not found",
    "unchecked": "not looked for, and why",
}


@dataclass(frozen=True)
class Finding:
    """One finding, or that nothing was found.

    Attributes:
        level: One of `LEVELS`.
        check: Name of the check.
        sentence: What was found, with counts, in one line.
        examples: A few of it, one line each.
    """

    level: str
    check: str
    sentence: str
    examples: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the finding as printed; names of slides are escaped."""
        return visible(f"{self.level:<9} {self.check}: {self.sentence}")


@dataclass(frozen=True)
class SlidePair:
    """Two slides that belong together.

    Attributes:
        check: Name of the check that found them.
        first: Name of a slide, or of its bag.
        second: Name of the other.
        detail: What they have in common.
    """

    check: str
    first: str
    second: str
    detail: str


@dataclass(frozen=True)
class CheckedSlides:
    """What is known of the slides before anything is compared.

    Attributes:
        table: One row per slide: `bag_id` and the columns of the data.
        labels: `(slides,)` integer classes, or numbers; `None` if there are none.
        class_names: Names of the classes; empty for numbers.
        splits: `(slides,)` names of their splits; empty texts if no split is known.
        groups: `(slides,)` patient of each slide; `None` if unknown.
        group_column: Column of the patient; empty if unknown.
        label_columns: Columns that make the label.
        split_column: Column of the split; empty for none.
        noun: What a row is: "slide" or "bag".
    """

    table: pd.DataFrame
    labels: NDArray[np.generic] | None
    class_names: tuple[str, ...]
    splits: NDArray[np.str_]
    groups: NDArray[np.str_] | None = None
    group_column: str = ""
    label_columns: tuple[str, ...] = ()
    split_column: str = ""
    noun: str = "slide"

    @property
    def names(self) -> list[str]:
        """Names of the slides."""
        return [str(name) for name in self.table["bag_id"]]

    @property
    def has_splits(self) -> bool:
        """Whether slides are in at least two splits."""
        return len({split for split in self.splits if split}) > 1

    @property
    def alone(self) -> NDArray[np.bool_]:
        """Which slides have no patient, `(slides,)`: each is a group of its own."""
        own = zip(self.names, [""] * len(self.table) if self.groups is None else self.groups, strict=True)
        return np.array([group in (f"bag {name}", f"alone: {name}") for name, group in own], dtype=bool)

    @property
    def num_groups(self) -> int:
        """Number of patients that have a name."""
        return 0 if self.groups is None else len(set(self.groups[~self.alone]))

    def counted(self, number: int) -> str:
        """Return a number of slides in words."""
        return counted(number, self.noun)

    def summary(self) -> str:
        """Return the line about what was checked."""
        parts = [self.counted(len(self.table))]
        if self.groups is not None:
            without = f" (none for {int(self.alone.sum()):,})" if self.alone.any() else ""
            parts.append(f"{self.num_groups:,} values of {self.group_column or 'the groups'}{without}")
        if self.has_splits:
            names, counts = np.unique(self.splits[self.splits != ""], return_counts=True)
            parts.append("splits " + ", ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True)))
        return "; ".join(parts)


def of_pairs(
    check: str, pairs: Sequence[SlidePair], slides: CheckedSlides, *, found: str, none: str, certain: bool
) -> Finding:
    """Return what pairs of slides mean for a split.

    Args:
        check: Name of the check.
        pairs: The pairs.
        slides: The slides.
        found: What a pair has, after "N pairs of slides ...".
        none: The sentence if there is none.
        certain: Whether a pair across splits is certainly a leak.
    """
    if not pairs:
        return Finding("ok", check, none)
    split = dict(zip(slides.names, slides.splits.tolist(), strict=True))
    group = {} if slides.groups is None else dict(zip(slides.names, slides.groups.tolist(), strict=True))
    across = [
        pair for pair in pairs if split[pair.first] and split[pair.second] and split[pair.first] != split[pair.second]
    ]
    apart = [pair for pair in pairs if group and group[pair.first] != group[pair.second]]
    words = [f"{counted(len(pairs), 'pair')} of {slides.noun}s {found}"]
    if slides.has_splits:
        words.append(f"{len(across):,} of them in two splits")
    if group:
        words.append(f"{len(apart):,} under two values of {slides.group_column or 'the groups'}")
    loose = not slides.has_splits and (not group or apart)
    level = ("leak" if certain else "look") if across else "look" if apart or loose else "note"
    shown = sorted(pairs, key=lambda pair: (pair not in across, pair not in apart)) if len(pairs) < 10_000 else across
    return Finding(level, check, ", ".join(words), tuple(_example(pair, split, group) for pair in shown[:3]))


def _example(pair: SlidePair, split: dict[str, str], group: dict[str, str]) -> str:
    """Return a pair in one line."""

    def named(name: str) -> str:
        known = [*filter(None, (split[name], f"patient {group[name]}" if group else ""))]
        return f"{name} ({', '.join(known)})" if known else name

    return f"{named(pair.first)} and {named(pair.second)}: {pair.detail}"


def pairs_table(pairs: Iterable[SlidePair], slides: CheckedSlides) -> pd.DataFrame:
    """Return one row per pair with split, patient and label of both."""
    place = {name: row for row, name in enumerate(slides.names)}
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        row: dict[str, Any] = asdict(pair)
        for side in ("first", "second"):
            own = place[row[side]]
            row[f"{side}_split"] = slides.splits[own]
            row[f"{side}_group"] = "" if slides.groups is None else slides.groups[own]
            row[f"{side}_label"] = label_text(slides, own)
        rows.append(row)
    columns = ["check", "first", "second", "detail"]
    more = [f"{side}_{what}" for what in ("split", "group", "label") for side in ("first", "second")]
    return pd.DataFrame(rows, columns=columns + more)


def label_text(slides: CheckedSlides, row: int) -> str:
    """Return the label of a slide in words; empty without labels."""
    if slides.labels is None:
        return ""
    value = slides.labels[row]
    return slides.class_names[int(value)] if slides.class_names else f"{value:g}"
