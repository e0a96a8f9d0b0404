"""Outcomes that look like those of a network."""

from collections.abc import Callable

import numpy as np
import pytest

from milpath.reports.outcomes import Outcomes, make_outcomes


def _draw_outcomes(num_bags: int, num_classes: int, task: str, seed: int = 0, groups: int | None = None) -> Outcomes:
    """Labels, and probabilities that know something of them, some of them tied."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(num_classes, size=num_bags)
    logits = generator.normal(size=(num_bags, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if num_classes == 2:
        positive = np.round(probabilities[:, 1], 2)
        probabilities = np.stack([1 - positive, positive], axis=1)
    return make_outcomes(labels, probabilities, task, groups=None if groups is None else np.arange(num_bags) % groups)


@pytest.fixture(scope="session")
def draw_outcomes() -> Callable[..., Outcomes]:
    return _draw_outcomes


@pytest.fixture
def binary() -> Outcomes:
    return _draw_outcomes(300, 2, "binary")


@pytest.fixture
def nominal() -> Outcomes:
    return _draw_outcomes(400, 4, "nominal")


@pytest.fixture
def ordinal() -> Outcomes:
    return _draw_outcomes(400, 6, "ordinal")
