"""Sweeps, trials, cross-validation and nested choice."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Load the callback that configurations name when Hydra asks for it: who only trains does not wait for it."""
    if name != "Search":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from milpath.search.search_callback import Search

    return Search
