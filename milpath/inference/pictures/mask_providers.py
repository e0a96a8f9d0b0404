"""Providers of masks, which define what the values in a mask mean."""

from collections.abc import Collection

import pandas as pd

from milpath.records.id_matching import match_ids
from milpath.records.label_table import find_column
from milpath.slides.mask import MASK_LABELS


def providers_of(slides: pd.DataFrame | None, masks: Collection[str]) -> dict[str, str]:
    """Return the provider of the mask of each slide, which defines the values in it.

    Args:
        slides: A row per slide, with `bag_id`; `None` if there is no table.
        masks: Names of the slides that have a mask.

    Raises:
        ValueError: If there is no column of providers, or a slide with a mask has none that is known.
    """
    known = " or ".join(MASK_LABELS)
    if not masks:
        return {}
    if slides is None or (column := find_column(slides.columns, "data_provider")) is None:
        raise ValueError(f"masks need labels=CSV with the column data_provider ({known}), which defines their values")
    names = match_ids(slides["bag_id"].tolist(), masks)
    cells = zip(slides["bag_id"], slides[column].astype(str).str.strip().str.lower(), strict=True)
    found = {names[name]: provider for name, provider in cells if name in names}
    if unknown := [name for name, provider in found.items() if provider not in MASK_LABELS]:
        raise ValueError(f"data_provider of {unknown[0]!r} is {found[unknown[0]]!r}; its mask needs {known}")
    return found
