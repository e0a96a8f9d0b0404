"""Hyperparameter search and cross-validation: sweeps, trials and nested selection."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Load the callback named in configurations on first use, so that training does not import it."""
    if name != "Search":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from milpath.search.search_callback import Search

    return Search
