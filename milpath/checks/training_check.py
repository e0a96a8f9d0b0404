"""The checks that a training and an evaluation do by themselves: those that take no second, in one line."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from milpath.checks.checked_inputs import slides_of_data
from milpath.checks.findings import CheckedSlides, Finding, SlidePair, of_pairs
from milpath.checks.patient_names import patients_in_two_splits, patients_with_two_names, slides_under_two_names
from milpath.checks.shared_tiles import equal_bags_of_stores, pairs_of
from milpath.data.store.bag_store import BagStore
from milpath.records.data_warning import MAX_LENGTH
from milpath.records.error_text import visible

if TYPE_CHECKING:
    from milpath.data.datamodule import BagDataModule

_MORE = "milpath check-data also compares thumbnails, names and labels"


class TrainingCheck(NamedTuple):
    """What a training says of its data.

    Attributes:
        line: For the terminal and the log.
        leak: What is certainly on two sides of the split, for the report, in at most 300 characters; empty for nothing.
        is_warning: Whether anything should be looked at.
    """

    line: str
    leak: str
    is_warning: bool


def check_for_training(datamodule: "BagDataModule") -> TrainingCheck:
    """Look for bags with the same tiles, patients across splits, and patients under two names.

    Of each bag a few bytes are read, and all of it only if another has the same. A leak does not stop the training: splits
    of published benchmarks have some. It is named in the terminal, and on top of the report.

    Args:
        datamodule: The data, after `setup`.
    """
    started = time.perf_counter()
    slides, rows = slides_of_data(datamodule)
    store = datamodule.tile_store
    return checked(
        [same_tiles(slides, [(store, int(row)) for row in rows]), *names_and_patients(slides)], slides, started
    )


def same_tiles(slides: CheckedSlides, bags: Sequence[tuple[BagStore, int]]) -> Finding:
    """Return which bags have the same tiles.

    Args:
        slides: The bags that are compared.
        bags: Store and position of each of them.
    """
    names = slides.names
    equal = [
        SlidePair("same tiles", names[first], names[second], "all tiles are the same")
        for first, second in pairs_of(equal_bags_of_stores(bags))
    ]
    none = f"no two of {slides.counted(len(bags))} have the same tiles"
    return of_pairs("same tiles", equal, slides, found="have the same tiles", none=none, certain=True)


def names_and_patients(slides: CheckedSlides) -> list[Finding]:
    """Return patients in two splits, and patients and bags under two names."""
    findings = [patients_in_two_splits(slides)]
    if slides.groups is not None:
        findings += patients_with_two_names(slides.groups.tolist(), slides.group_column)
    return [*findings, slides_under_two_names(slides)]


def checked(findings: Sequence[Finding], slides: CheckedSlides, started: float) -> TrainingCheck:
    """Return findings in one line: what is alarming, or else what the first two looked for and did not find.

    Args:
        findings: The findings, those of which a clean result is said first.
        slides: The bags they are about.
        started: When the check began, by `time.perf_counter`.
    """
    leaks = [finding for finding in findings if finding.level == "leak"]
    alarming = [finding for finding in findings if finding.level in ("leak", "look")]
    told = alarming or [finding for finding in findings[:2] if finding.level != "unchecked"]
    told += [finding for finding in findings if finding.level == "note" and finding not in told]
    text = "; ".join(map(_in_line, told))
    unknown = "" if slides.groups is not None else "; patients are not known (data.group_column)"
    line = f"data check: {text}{unknown} ({time.perf_counter() - started:.1f} s; {_MORE})"
    leak = "; ".join(f"{finding.check}: {finding.sentence.partition(';')[0]}" for finding in leaks)
    return TrainingCheck(visible(line), _shortened(visible(leak)), bool(alarming))


def _in_line(finding: Finding) -> str:
    """Return a finding with its first example."""
    loud = "LEAK, " if finding.level == "leak" else ""
    example = f" ({finding.examples[0]})" if finding.examples else ""
    check = "" if finding.level in ("ok", "note") else f"{finding.check}: "
    return f"{loud}{check}{finding.sentence}{example}"


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 3] + "..."
