"""Labels that follow names, dates, sizes, scanners or colours, and properties that can be told from embeddings."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from milpath.checks.findings import CheckedSlides, Finding
from milpath.checks.slide_colours import COLOURS
from milpath.data.splits.assign_splits import assign_folds
from milpath.metrics.intervals import Interval
from milpath.metrics.shortcuts.association import LEAST_EFFECT, SHARE, Association
from milpath.metrics.shortcuts.linear_probe import Probe, linear_probe
from milpath.records.error_text import counted
from milpath.targets.columns.class_words import is_missing

LABEL_CHECK, PROBE_CHECK = "label without tissue", "told from the embedding"
_NUM_FOLDS = 5


def label_findings(found: Sequence[Association], slides: CheckedSlides, num_permutations: int) -> list[Finding]:
    """Return what the tests of covariates say in words.

    Args:
        found: The tests; empty if there was nothing to test.
        slides: The slides.
        num_permutations: Of each test.
    """
    if slides.labels is None:
        return [Finding("unchecked", LABEL_CHECK, "the slides have no labels; give labels=TABLE and label_column=NAME")]
    if not found:
        return [Finding("unchecked", LABEL_CHECK, "nothing varies that could be compared with the label")]
    by = f"permuted {num_permutations:,} times"
    if slides.groups is not None:
        by += f" by {slides.group_column or 'group'}"
    strong = [each for each in found if each.is_finding]
    weak = [each for each in found if each.adjusted < 0.05 and not each.is_finding]
    findings = [
        Finding(
            "look", LABEL_CHECK, f"the label can be told from {each.name}: {in_words(each)}, {by}{_meaning(each.name)}"
        )
        for each in strong
    ]
    if weak:
        sentence = (
            f"{counted(len(weak), 'more association')} beyond chance but too weak to matter ({_least(found[0])}): "
            + "; ".join(f"{each.name} {_effect(each.effect)}" for each in weak)
        )
        findings.append(Finding("note", LABEL_CHECK, sentence))
    rest = [each for each in found if each not in strong and each not in weak]
    if rest:
        sentence = (
            f"no association beyond chance with {counted(len(rest), 'other')} of {len(found)} tested: "
            + ", ".join(each.name for each in rest)
            + f" ({by}, Holm)"
        )
        findings.append(Finding("ok", LABEL_CHECK, sentence))
    if len(found) / (num_permutations + 1) >= 0.05:
        needed = f"num_permutations={20 * len(found)} or more"
        findings.append(
            Finding(
                "unchecked",
                LABEL_CHECK,
                f"no test of {len(found)} can be below 0.05 with so few permutations; give {needed}",
            )
        )
    if slides.groups is None:
        findings.append(
            Finding(
                "unchecked",
                LABEL_CHECK,
                "patients are not known, and slides count as independent: p-values are too small if patients have several",
            )
        )
    return findings


def missing_words(slides: CheckedSlides) -> list[Finding]:
    """Return a finding for each class of a table that is a word for a missing label, such as NA."""
    if slides.labels is None or slides.noun != "slide":  # a data module takes such a word only if its user names it
        return []
    counts = {name: int((slides.labels == code).sum()) for code, name in enumerate(slides.class_names)}
    return [
        Finding(
            "look",
            "labels",
            f"{counted(count, 'slide')} {'has' if count == 1 else 'have'} the label {name!r}, which counts as a class here; "
            "a training refuses it, unless data.class_names names it: label or remove them",
        )
        for name, count in counts.items()
        if is_missing(name)
    ]


def probe_folds(
    values: NDArray[np.generic], groups: NDArray[np.str_] | None, seed: int
) -> tuple[NDArray[np.int64] | None, str]:
    """Return folds for a probe in which no group is in two, and why there are none.

    Args:
        values: `(slides,)` texts, or numbers.
        groups: `(slides,)` patients.
        seed: Seed of the folds.
    """
    codes = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    if np.issubdtype(values.dtype, np.number):
        strata = np.zeros(len(values), dtype=np.int64)
        least = int(codes.max()) + 1
    else:
        names, strata = np.unique(values, return_inverse=True)
        strata = strata.reshape(-1)
        own = {str(names[code]): len(np.unique(codes[strata == code])) for code in range(len(names))}
        least = min(own.values())
        if least < 2:
            rare = next(name for name, count in own.items() if count < 2)
            return None, f"{rare!r} is the value of a single {'slide' if groups is None else 'patient'}"
    if least < 2:
        return None, "there is a single patient"
    folds = assign_folds(strata[:, None], codes, [1.0] * min(_NUM_FOLDS, least), np.random.default_rng(seed))
    return folds, ""


def probes(
    embeddings: NDArray[np.floating],
    properties: Mapping[str, NDArray[np.generic]],
    groups: NDArray[np.str_] | None,
    *,
    num_permutations: int = 199,
    num_resamples: int = 1000,
    seed: int = 0,
) -> tuple[list[Probe], list[Finding]]:
    """Return how well each property can be told from the embeddings, and which could not be probed.

    Args:
        embeddings: `(slides, dim)`.
        properties: Name to `(slides,)` texts or numbers; slides without a value are left out of that probe.
        groups: `(slides,)` patients, each in one fold.
        num_permutations: As in `linear_probe`.
        num_resamples: As in `linear_probe`.
        seed: Seed of folds, permutations and resamples.
    """
    found: list[Probe] = []
    left: list[Finding] = []
    for name, values in properties.items():
        known = np.isfinite(values) if np.issubdtype(values.dtype, np.number) else values != ""
        own = None if groups is None else groups[known]
        if known.sum() < 2 or len(np.unique(values[known])) < 2:
            left.append(Finding("unchecked", PROBE_CHECK, f"{name}: fewer than two values"))
            continue
        folds, reason = probe_folds(values[known], own, seed)
        if folds is None or len(np.unique(folds)) < 2:
            left.append(Finding("unchecked", PROBE_CHECK, f"{name}: {reason or 'fewer than two folds'}"))
            continue
        found.append(
            linear_probe(
                name, embeddings[known], values[known], folds, own,
                num_permutations=num_permutations, num_resamples=num_resamples, seed=seed,
            )
        )  # fmt: skip
    return found, left


def probe_findings(
    found: Sequence[Probe], adjusted: Sequence[float], told: Sequence[Association], what: str
) -> list[Finding]:
    """Return the probes in words; a property that is told and that the label follows is one a network may use.

    Args:
        found: The probes.
        adjusted: Their p-values, adjusted for their number.
        told: Associations of the same properties with the label.
        what: Whose embeddings they are.
    """
    follows = {each.name: each for each in told if each.is_finding}
    findings = []
    for probe, p in zip(found, adjusted, strict=True):
        said = f"{probe.name} {'can' if p < 0.05 else 'cannot'} be told from {what}: {_of_probe(probe, p)}"
        both = p < 0.05 and probe.name in follows
        if both:
            said += f"; the label follows it as well ({_effect(follows[probe.name].effect)}), so a network may learn it"
        findings.append(Finding("look" if both else "note" if p < 0.05 else "ok", PROBE_CHECK, said))
    return findings


def in_words(each: Association) -> str:
    """Return the effect of an association with its interval, chance level and adjusted p-value."""
    measure = "share of the variance of the ranks" if each.measure == SHARE else "AUROC"
    return f"{measure} {_effect(each.effect)}, by chance {each.chance:.2f}, p = {_p(each.adjusted)} (Holm)"


def _of_probe(probe: Probe, p: float) -> str:
    measure = "AUROC" if probe.measure == "auroc" else "rank correlation"
    text = f"{measure} {_effect(probe.effect)}, by chance {probe.chance:.2f} (95 % below {probe.chance_high:.2f})"
    if probe.balanced_accuracy is not None:
        text += f", balanced accuracy {_effect(probe.balanced_accuracy)} with {1 / len(probe.values):.2f} by guessing"
    return f"{text}, p = {_p(p)} (Holm)"


def is_of_name(covariate: str) -> bool:
    """Return whether a covariate is a part of the names of slides, or their order."""
    return covariate.endswith((" of the name", " of the names"))


def _meaning(covariate: str) -> str:
    """Return what to look for."""
    if is_of_name(covariate):
        return "; a network sees no names: were the classes collected, scanned and named alike?"
    if covariate in COLOURS or covariate == "number of tiles":
        return "; this may be the disease itself, or the stain"
    return ""


def _least(each: Association) -> str:
    return f"{'AUROC' if each.measure != SHARE else 'share'} below {LEAST_EFFECT[each.measure]:g}"


def _effect(interval: Interval) -> str:
    if interval.value is None:
        return "undefined"
    ends = "" if interval.low is None or interval.high is None else f" ({interval.low:.2f} to {interval.high:.2f})"
    return f"{interval.value:.2f}{ends}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
