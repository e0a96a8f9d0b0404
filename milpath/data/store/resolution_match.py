"""Whether tiles have the resolution of the tiles on which a network was trained."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from milpath.data.store.bag_store import BagStore
from milpath.records.tile_resolution import ALLOW, TRAINED, describe_range, differs, positive_or_nan, trained_range


class TileResolutions(NamedTuple):
    """Resolution of the tiles of each slide.

    Attributes:
        bag_ids: Names of the slides.
        microns: float64 `(slides,)` microns per pixel; NaN where it is unknown.
    """

    bag_ids: tuple[str, ...]
    microns: np.ndarray


def resolutions_of(store: BagStore) -> TileResolutions:
    """Return the resolution of the tiles of each slide of a store."""
    store = store.slide_store
    ids = tuple(store.bags["bag_id"].astype(str))
    if "microns_per_pixel" in store.bags:
        values = np.array([positive_or_nan(value) for value in store.bags["microns_per_pixel"]], np.float64)
    else:
        values = np.full(len(ids), positive_or_nan(store.description.get("microns_per_pixel")), np.float64)
    return TileResolutions(ids, values)


def trained_resolution(store: BagStore) -> dict[str, list[float]]:
    """Return what a card's `tiling` keeps of the resolution of the training; empty if it is unknown."""
    microns = resolutions_of(store).microns
    if not len(microns) or np.isnan(microns).any():
        return {}
    return {TRAINED: [float(f"{microns.min():.6g}"), float(f"{microns.max():.6g}")]}


def compare_resolution(tiling: Mapping[str, Any], store: BagStore, choice: str = "error") -> str | None:
    """Compare the tiles of a store with those on which a network was trained.

    Args:
        tiling: `tiling` of the network's card.
        store: The tiles to predict.
        choice: "error" refuses another resolution, "allow" only says it.

    Returns:
        A line if the resolutions differ or one of them is unknown; `None` if they agree.

    Raises:
        ValueError: If they differ by more than a factor of 1.25.
    """
    trained, found = trained_range(tiling), resolutions_of(store)
    known = ~np.isnan(found.microns)
    if trained is None:
        if not known.any():
            return None
        tiles = describe_range(float(np.nanmin(found.microns)), float(np.nanmax(found.microns)))
        return (
            f"the checkpoint does not say at what resolution it was trained; the tiles have {tiles} microns per pixel"
        )
    of_training = describe_range(*trained)
    wrong = [index for index in np.flatnonzero(known) if differs(float(found.microns[index]), trained)]
    if wrong:
        first = wrong[0]
        text = (
            f"{len(wrong):,} of {len(known):,} slides have tiles of another resolution than the network was trained at "
            f"({of_training} microns per pixel; first: {found.bag_ids[first]!r} with {found.microns[first]:.3g})"
        )
        if choice != ALLOW:
            raise ValueError(
                f"{text}; cut them with python -m milpath.tile microns_per_pixel={trained[0]:.3g} and predict that store, "
                "state the resolution of a wrong file in a table with resolutions=CSV, or add mixed_resolution=allow"
            )
        return text
    if not known.all():
        names = [name for name, value in zip(found.bag_ids, known, strict=True) if not value]
        return (
            f"the resolution of {len(names):,} of {len(known):,} bags is unknown (first: {names[0]!r}); the network was "
            f"trained at {of_training} microns per pixel"
        )
    return None
