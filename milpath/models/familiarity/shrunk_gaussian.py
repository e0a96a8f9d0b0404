"""A Gaussian of embeddings with a shrunk covariance, and the Mahalanobis distance from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milpath.records.plain_values import brief

MOST_DIRECTIONS, MOST_DIMENSIONS = 64, 16_384
# Beyond this a distance says nothing more, and its square would not fit into float32.
FARTHEST = 1e9
_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class ShrunkGaussian:
    """A Gaussian whose covariance is `sum_i l_i v_i v_i' + r (I - sum_i v_i v_i')`.

    Attributes:
        mean: `(dim,)` float32.
        directions: `(directions, dim)` float32, the orthonormal v_i of the largest variances, at most 64.
        variances: `(directions,)` float32, l_i > 0.
        rest: `()` float32, r > 0: the mean variance of all other directions.
    """

    mean: Tensor
    directions: Tensor
    variances: Tensor
    rest: Tensor

    def distances(self, rows: Tensor) -> Tensor:
        """Return the Mahalanobis distance `sqrt((x - m)' C^-1 (x - m) / dim)` of rows, `(...,)` of `(..., dim)`.

        It is 1 or somewhat less for rows that it was fitted on, whatever their width, and at most 1e9.
        """
        centred = rows.float() - self.mean.to(rows.device)
        directions = self.directions.to(rows.device)
        along = centred @ directions.T
        squares = (along**2 / self.variances.to(rows.device)).sum(-1)
        if len(directions) < len(self.mean):
            # The rest as a vector: as a difference of squares it would be lost in the digits of float32.
            squares = squares + ((centred - along @ directions) ** 2).sum(-1) / self.rest.to(rows.device)
        found: Tensor = (squares / len(self.mean)).sqrt()
        return found.nan_to_num(nan=FARTHEST, posinf=FARTHEST).clamp(max=FARTHEST)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return {name: getattr(self, name) for name in ("mean", "directions", "variances", "rest")}

    @classmethod
    def of_state(cls, state: Any, where: str) -> "ShrunkGaussian":
        """Return the Gaussian of tensors by name, which may come from somebody else's file.

        Raises:
            ValueError: If a tensor is missing, not float32, not finite, of a shape that does not fit, or too large.
        """
        if not isinstance(state, Mapping) or set(state) != {"mean", "directions", "variances", "rest"}:
            raise ValueError(f"{where} must have mean, directions, variances and rest, not {brief(state)}")
        for name, value in state.items():
            require_tensor(value, f"{name} of {where}", MOST_DIMENSIONS * MOST_DIRECTIONS)
        mean, directions, variances, rest = (state[name] for name in ("mean", "directions", "variances", "rest"))
        width, count = len(mean) if mean.ndim == 1 else 0, len(variances) if variances.ndim == 1 else 0
        if not (
            0 < width <= MOST_DIMENSIONS
            and count <= min(width, MOST_DIRECTIONS)
            and directions.shape == (count, width)
            and rest.ndim == 0
        ):
            shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
            raise ValueError(f"the tensors of {where} do not fit each other: {brief(shapes)}")
        if not bool((variances > 0).all()) or not bool(rest > 0):
            raise ValueError(f"the variances of {where} must be above 0")
        return cls(mean, directions, variances, rest)


def require_tensor(value: Any, where: str, most: int) -> Tensor:
    """Return a float32 tensor from a file; refuse another type, more numbers than allowed, or one that is not finite."""
    if not isinstance(value, Tensor) or value.dtype != torch.float32 or value.layout != torch.strided:
        raise ValueError(f"{where} must be a float32 tensor, not {brief(type(value).__name__)}")
    if value.numel() > most or not bool(torch.isfinite(value).all()):
        raise ValueError(f"{where} must be at most {most:,} finite numbers")
    return value


def fit_gaussian(rows: NDArray[np.floating]) -> ShrunkGaussian:
    """Return the Gaussian of rows, with the covariance `(1 - s) S + s (tr S / dim) I` of Ledoit and Wolf.

    The intensity s minimises the expected squared error of the covariance; it is close to 1 for few rows of many
    dimensions, where the distance becomes Euclidean, and close to 0 for many. Beyond 64 directions the smallest variances
    are replaced by their mean, as in probabilistic principal components: the trace stays, and the size is bounded.

    Args:
        rows: `(rows, dim)`, at least two, finite.

    Raises:
        ValueError: If there are fewer than two rows, or all are equal.

    References:
        Ledoit and Wolf. A well-conditioned estimator for large-dimensional covariance matrices. Journal of Multivariate
        Analysis 2004, eq. 14 (lemma 3.2 to 3.5 for the estimates). Tipping and Bishop. Probabilistic principal component
        analysis. JRSS B 1999, eq. 8.
    """
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"a covariance needs at least two rows, not an array of shape {rows.shape}")
    count, width = rows.shape
    centred = rows.astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    variances, directions = _principal(centred)
    level = variances.sum() / width
    if not np.isfinite(level) or not level > 0:
        raise ValueError("the rows of a covariance must be finite and not all equal")
    spread = (variances**2).sum()
    # sum_ij of the mean of x_i^2 x_j^2, without the matrix.
    fourth = ((centred**2).sum(axis=1) ** 2).mean()
    distance = (spread - width * level**2) / width
    error = min((fourth - spread) / count / width, distance)
    intensity = error / distance if error > 0 else 0.0
    shrunk = np.maximum((1 - intensity) * variances + intensity * level, _LEAST_SHARE * level)
    kept = min(len(shrunk), MOST_DIRECTIONS)
    others = width - kept
    rest = max((width * level - shrunk[:kept].sum()) / others, _LEAST_SHARE * level) if others else level
    return ShrunkGaussian(
        torch.from_numpy(mean.astype(np.float32)),
        torch.from_numpy(np.ascontiguousarray(directions[:kept], dtype=np.float32)),
        torch.from_numpy(shrunk[:kept].astype(np.float32)),
        torch.tensor(float(rest)),
    )


def _principal(centred: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the variances along the principal directions, largest first, and these directions, one per row.

    Of fewer rows than dimensions only the directions that the rows span are returned.
    """
    count, width = centred.shape
    if count > width:
        variances, vectors = np.linalg.eigh(centred.T @ centred / count)
        return np.maximum(variances[::-1], 0), vectors[:, ::-1].T
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    # Centred rows span one direction less than there are rows.
    return lengths[: count - 1] ** 2 / count, directions[: count - 1]
