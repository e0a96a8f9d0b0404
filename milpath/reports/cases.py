"""The case table of a report, one entry per bag: label, prediction, error and attention."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore
from milpath.metrics.attention_quality import attention_entropy
from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.records.prediction_table import Predictions
from milpath.reports.pictures import CasePictures
from milpath.targets import ClassTarget

NUM_TOP_TILES = 5
# Columns that are not shown as details of a bag: internal to the store, or shown already.
OWN_COLUMNS = frozenset({"bag_id", "index", "start", "num_tiles", "label", "split"})
MAX_DETAILS = 8


def case_table(
    predictions: Predictions,
    outcomes: EvaluatedBags,
    target: ClassTarget,
    defer_below: float,
    bags: pd.DataFrame | None,
    pictures: Mapping[str, CasePictures],
    num_slides: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the case table as columns of plain values, a third of the size of rows.

    Args:
        predictions: Predictions of all splits.
        outcomes: The same bags, evaluated.
        target: The target of the run.
        defer_below: Confidence below which a bag is deferred.
        bags: Table with `bag_id` and further columns; None if there is none.
        pictures: Bag to its picture files.
        num_slides: Bag to the number of its slides; empty if each bag is a slide.
    """
    splits = list(dict.fromkeys(predictions.splits))
    top = [_top_tiles(weights) for weights in predictions.attention]
    files = [pictures.get(bag_id) for bag_id in predictions.bag_ids]
    return {
        "classNames": list(predictions.class_names),
        "splitNames": splits,
        "id": list(predictions.bag_ids),
        "split": [splits.index(split) for split in predictions.splits],
        "positiveClass": target.positive_class,
        "label": outcomes.labels.tolist(),
        "predicted": outcomes.predicted.tolist(),
        "probabilities": np.round(outcomes.probabilities, 4).tolist(),
        "wrongness": np.round(target.wrongness(outcomes), 4).tolist(),
        "deferred": ((outcomes.confidence < defer_below) | predictions.unfamiliar).astype(int).tolist(),
        "numTiles": [len(weights) for weights in predictions.attention],
        "numSlides": [num_slides[bag_id] for bag_id in predictions.bag_ids] if num_slides else [],
        "entropy": [round(attention_entropy(weights), 3) for weights in predictions.attention],
        "top": top,
        "montage": [None if file is None else file.montage for file in files],
        "overlay": [None if file is None else file.overlay for file in files],
        "classOverlays": [[] if file is None else [list(each) for each in file.class_overlays] for file in files],
        "unfamiliarity": _unfamiliarity(predictions),
        "details": _details(predictions.bag_ids, bags),
    }


def num_slides_of(store: BagStore | None) -> dict[str, int]:
    """Return the number of slides of each bag of a store, such as a patient; empty if each bag is a slide."""
    if store is None or not store.grouped:
        return {}
    return {str(bag_id): len(store.slides_of(index)) for index, bag_id in enumerate(store.bags["bag_id"])}


def case_anchor(bag_id: str) -> str:
    """Return the fragment by which a report is opened at a case: `report.html#case-slide_7`.

    It is the text that `encodeURIComponent` gives in a browser, with ASCII characters only.

    Example:
        >>> case_anchor("slide 7/b#2")
        'case-slide%207%2Fb%232'
    """
    return "case-" + quote(bag_id, safe="!'()*~")


def _top_tiles(weights: NDArray[np.floating]) -> list[list[float]]:
    """Return index and weight of the tiles with the highest attention."""
    order = np.argsort(-weights, kind="stable")[:NUM_TOP_TILES]
    return [[int(index), round(float(weights[index]), 4)] for index in order]


def _unfamiliarity(predictions: Predictions) -> list[str]:
    """Return how unfamiliar each bag is as text; empty without a model of familiar slides."""
    if predictions.unfamiliarity is None:
        return []
    return [
        f"more than {percent:.3g}% of validation bags" + (", referred" if above else "")
        for above, percent in predictions.unfamiliarity[:, :2].tolist()
    ]


def _details(bag_ids: Sequence[str], bags: pd.DataFrame | None) -> dict[str, list[str]]:
    """Return the further columns of each bag as text."""
    if bags is None:
        return {}
    names = [str(name) for name in bags.columns if name not in OWN_COLUMNS][:MAX_DETAILS]
    known = bags.drop_duplicates("bag_id").set_index("bag_id")[names].reindex(list(bag_ids))
    return {name: ["" if pd.isna(value) else str(value) for value in known[name]] for name in names}
