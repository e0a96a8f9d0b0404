"""All checks of a set of slides, from the names and tables to the files and the embeddings."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.checks.covariates import Values, column_covariates, name_covariates
from milpath.checks.findings import CheckedSlides, Finding, SlidePair, of_pairs
from milpath.checks.label_shortcuts import (
    PROBE_CHECK,
    is_of_name,
    label_findings,
    missing_words,
    probe_findings,
    probes,
)
from milpath.checks.near_duplicates import MAX_DISTANCE, near_pairs
from milpath.checks.patient_names import patients_in_two_splits, patients_with_two_names, slides_under_two_names
from milpath.checks.perceptual_hash import NUM_BITS, hash_of_text
from milpath.checks.shared_tiles import equal_bags, pairs_of, shared_tiles
from milpath.checks.slide_colours import COLOURS, colours_of_bags
from milpath.data.store.bag_store import BagStore
from milpath.metrics.shortcuts.association import Association, associations
from milpath.metrics.shortcuts.linear_probe import Probe
from milpath.metrics.shortcuts.permutation import holm
from milpath.records.error_text import counted

_SAME_FILE, _NEAR, _SAME_TILES, _SHARED = "same file", "near-duplicate slides", "same tiles", "shared tiles"
# Bags that share at least this part of their tiles are taken to be of one slide.
_LEAST_SHARE = 0.5


@dataclass
class DataChecks:
    """Everything that checks found.

    Attributes:
        slides: What was checked.
        findings: In the order of the checks.
        pairs: Slides that belong together.
        associations: Of the label with each covariate.
        probes: Of the embeddings.
        seconds: Check to the seconds that it took.
    """

    slides: CheckedSlides
    findings: list[Finding] = field(default_factory=list)
    pairs: list[SlidePair] = field(default_factory=list)
    associations: list[Association] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckOptions:
    """How much is computed.

    Attributes:
        columns: Columns that are tested although their name is not technical.
        max_distance: Bits of 255 by which the hashes of near-duplicates may differ.
        num_permutations: Of the label for each covariate, and of each property for its probe.
        num_resamples: Bootstrap resamples of each interval.
        seed: Seed of permutations, resamples and folds.
    """

    columns: tuple[str, ...] = ()
    max_distance: int = MAX_DISTANCE
    num_permutations: int = 999
    num_resamples: int = 1000
    seed: int = 0


def check_slides(
    slides: CheckedSlides,
    store: tuple[BagStore, NDArray[np.int64]] | None = None,
    facts: pd.DataFrame | None = None,
    embeddings: tuple[NDArray[np.floating], str] | None = None,
    options: CheckOptions | None = None,
) -> DataChecks:
    """Run every check for which there is what it needs, and say which had nothing.

    Args:
        slides: The slides.
        store: Their tiles, and the position of each slide in them.
        facts: Their files, from `slide_facts`; not all slides need have one.
        embeddings: `(slides, dim)`, and whose they are.
        options: How much is computed.

    Raises:
        ValueError: If `columns` names a column that is not there.
    """
    options = options or CheckOptions()
    checks = DataChecks(slides)
    covariates, others = column_covariates(slides.table, _own_columns(slides), options.columns)
    started = time.perf_counter()
    checks.findings.append(patients_in_two_splits(slides))
    if slides.groups is not None:
        checks.findings += patients_with_two_names(slides.groups.tolist(), slides.group_column or "the groups")
    checks.findings.append(slides_under_two_names(slides))
    started = _took(checks, "names", started)
    if facts is not None:
        _check_files(checks, facts, options)
        started = _took(checks, "files and thumbnails", started)
    else:
        checks.findings.append(Finding("unchecked", _NEAR, "there are no thumbnails; give slides=FOLDER of the slides"))
    if store is not None:
        _check_tiles(checks, *store)
        started = _took(checks, "tiles", started)
    covariates = name_covariates(slides.names) | covariates | _measured(slides, store, facts)
    if slides.labels is not None:
        checks.associations = associations(
            slides.labels, covariates, slides.groups, num_permutations=options.num_permutations,
            num_resamples=options.num_resamples, seed=options.seed,
        )  # fmt: skip
    checks.findings += missing_words(slides)
    checks.findings += label_findings(checks.associations, slides, options.num_permutations)
    if others:
        checks.findings.append(
            Finding(
                "unchecked",
                "columns",
                f"not compared with the label: {', '.join(others)}; columns=[NAME] compares them",
            )
        )
    started = _took(checks, "labels", started)
    _check_embeddings(checks, embeddings, covariates, options)
    _took(checks, "embeddings", started)
    return checks


def _own_columns(slides: CheckedSlides) -> set[str]:
    """Return the columns that are the name, label, split or patient of a slide, or are measured anew."""
    return {"bag_id", "num_tiles", *slides.label_columns, slides.group_column, slides.split_column}


def _took(checks: DataChecks, name: str, started: float) -> float:
    """Record the seconds of a part; return the time."""
    now = time.perf_counter()
    checks.seconds[name] = round(now - started, 2)
    return now


def _check_files(checks: DataChecks, facts: pd.DataFrame, options: CheckOptions) -> None:
    """Compare files and thumbnails."""
    slides = checks.slides
    names = facts["bag_id"].astype(str).tolist()
    if unread := [f"{bag}: {reason}" for bag, reason in zip(names, facts["reason"].tolist(), strict=True) if reason]:
        checks.findings.append(
            Finding("unchecked", _NEAR, f"{slides.counted(len(unread))} cannot be read", tuple(unread[:3]))
        )
    if without := len(slides.names) - len(names):
        checks.findings.append(Finding("unchecked", _NEAR, f"{slides.counted(without)} have no file in slides="))
    readable = (facts["reason"] == "").to_numpy(dtype=bool)
    by_content = facts[readable].groupby("fingerprint").groups
    files = facts.set_index("bag_id")["file"]
    same = pairs_of([[int(place) for place in places] for places in by_content.values()])
    found = [
        SlidePair(_SAME_FILE, names[a], names[b], f"{files.iloc[a]} and {files.iloc[b]} have the same content")
        for a, b in same
    ]
    checks.pairs += found
    none = f"no two of {counted(int(readable.sum()), 'file')} have the same content"
    checks.findings.append(
        of_pairs(_SAME_FILE, found, slides, found="are the same file twice", none=none, certain=True)
    )
    blank = facts["blank"].to_numpy(dtype=bool)
    shown = np.flatnonzero(readable & ~blank)
    if count := int((readable & blank).sum()):
        checks.findings.append(
            Finding(
                "unchecked",
                _NEAR,
                f"{slides.counted(count)} have a thumbnail of one brightness, which is like any other",
            )
        )
    hashes = [hash_of_text(str(text)) for text in facts["hash"].iloc[shown]]
    close = near_pairs(np.stack(hashes), options.max_distance) if len(hashes) > 1 else []
    exact = set(same)
    near = [
        SlidePair(
            _NEAR, names[shown[pair.first]], names[shown[pair.second]],
            f"{pair.distance} of {NUM_BITS - 1} bits differ{', turned or mirrored' if pair.turned else ''}",
        )
        for pair in close
        if (int(shown[pair.first]), int(shown[pair.second])) not in exact
    ]  # fmt: skip
    checks.pairs += near
    number = len(shown) * (len(shown) - 1) // 2
    among = f"{slides.counted(len(shown))} ({counted(number, 'pair')}, each in 8 orientations)"
    checks.findings.append(
        of_pairs(
            _NEAR,
            near,
            slides,
            found=f"among {among} look the same",
            none=f"no near-duplicate among {among}",
            certain=False,
        )
    )


def _check_tiles(checks: DataChecks, store: BagStore, rows: NDArray[np.int64]) -> None:
    """Compare the tiles of bags."""
    slides, names = checks.slides, checks.slides.names
    equal = pairs_of(equal_bags(store, rows))
    found = [
        SlidePair(_SAME_TILES, names[a], names[b], f"all {store.num_tiles[rows[a]]:,} tiles are the same")
        for a, b in equal
    ]
    checks.findings.append(
        of_pairs(
            _SAME_TILES, found, slides, found="have the same tiles, byte for byte",
            none=f"no two of {slides.counted(len(rows))} have the same tiles", certain=True,
        )
    )  # fmt: skip
    shared, left_out = shared_tiles(store, rows)
    exact = set(equal)
    many: list[SlidePair] = []
    few: list[SlidePair] = []
    for pair in shared:
        if (pair.first, pair.second) not in exact:
            detail = f"{counted(pair.num_tiles, 'tile')} in both, {pair.share:.0%} of the smaller"
            own = SlidePair(_SHARED, names[pair.first], names[pair.second], detail)
            (many if pair.share >= _LEAST_SHARE else few).append(own)
    without = f"; {left_out:,} tiles of one value or in many bags were left out" if left_out else ""
    if many or not few:
        none = f"no two of {slides.counted(len(rows))} share a tile{without}"
        checks.findings.append(
            of_pairs(
                _SHARED, many, slides, found=f"share at least half of their tiles{without}", none=none, certain=False
            )
        )
    if few:
        said = of_pairs(
            _SHARED, few, slides, found=f"share less than half of their tiles{without}", none="", certain=False
        )
        checks.findings.append(Finding("note", said.check, said.sentence, said.examples))
    checks.pairs += found + many


def _measured(
    slides: CheckedSlides, store: tuple[BagStore, NDArray[np.int64]] | None, facts: pd.DataFrame | None
) -> dict[str, Values]:
    """Return what is measured of files and tiles, `(slides,)` each."""
    found: dict[str, Values] = {}
    if store is not None:
        found["number of tiles"] = store[0].num_tiles[store[1]].astype(np.float64)
        if (colours := colours_of_bags(*store)) is not None:
            found |= {name: colours[:, place] for place, name in enumerate(COLOURS)}
    if facts is not None:
        own = facts[facts["reason"] == ""].set_index("bag_id").reindex(slides.names)
        words = {"file_size": "file size", "file_time": "date of the file", "width": "width", "height": "height"}
        words |= {"microns_per_pixel": "microns per pixel"} | {name: name for name in COLOURS}
        found |= {word: own[name].to_numpy(dtype=np.float64) for name, word in words.items()}
    return {name: values for name, values in found.items() if len(np.unique(values[np.isfinite(values)])) > 1}


def _check_embeddings(
    checks: DataChecks,
    embeddings: tuple[NDArray[np.floating], str] | None,
    covariates: Mapping[str, Values],
    options: CheckOptions,
) -> None:
    """Probe the embeddings for what a network could use instead of tissue."""
    if embeddings is None:
        checks.findings.append(
            Finding("unchecked", PROBE_CHECK, "no embeddings: give data= of features, or checkpoint=PATH with data=")
        )
        return
    # Parts of names are no property of a slide that an embedding could hold.
    properties = {name: values for name, values in covariates.items() if not is_of_name(name)}
    if not properties:
        checks.findings.append(
            Finding(
                "unchecked", PROBE_CHECK, "nothing known of the slides to be told: name columns with columns=[NAME]"
            )
        )
        return
    checks.probes, left = probes(
        embeddings[0], properties, checks.slides.groups, num_permutations=options.num_permutations,
        num_resamples=options.num_resamples, seed=options.seed,
    )  # fmt: skip
    adjusted: Sequence[float] = holm([probe.p_value for probe in checks.probes])
    checks.findings += [*probe_findings(checks.probes, adjusted, checks.associations, embeddings[1]), *left]
