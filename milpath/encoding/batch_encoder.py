"""Running an encoder on batches of one shape, so that features do not depend on how tiles were batched."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from milpath.models.encoders.pretrained_encoder import PretrainedEncoder
from milpath.models.encoders.trained_encoder import PRECISIONS, stains_of
from milpath.models.network_input import to_network_input

DTYPES = ("float16", "float32")
# Tiles of a batch: on a CPU a larger one is not faster, and the last one is filled up.
_CPU_BATCH, _GPU_BATCH = 16, 256
# Of a value of a tile: as it is read, and in float32 for the encoder.
_BYTES = 1 + 4
_log = logging.getLogger(__name__)


class BatchEncoder:
    """Encode tiles in batches that always have the same shape; the last is filled up with black tiles.

    The kernels of torch then compute each row of a batch in the same way, whatever the other rows are: an interrupted
    extraction, whose batches hold other tiles, ends with the same bytes.

    Args:
        encoder: Maps tiles `(tiles, 3, height, width)` in [0, 1] to `(tiles, embedding_dim)`; in evaluation mode.
        tile_size: Side of a tile in pixels.
        device: Device to run on.
        precision: "32-true", "16-mixed" or "bf16-mixed".
        batch_size: Tiles of a batch; `None` is 16 on a CPU and 256 on a GPU.
        dtype: Type of the features: "float16" or "float32".

    Attributes:
        batch_size: Tiles of a batch. It is halved if the memory of the GPU is exhausted.
    """

    def __init__(
        self,
        encoder: nn.Module,
        tile_size: int,
        device: str | torch.device = "cpu",
        precision: str = "32-true",
        batch_size: int | None = None,
        dtype: str = "float16",
    ) -> None:
        require_batches(tile_size, precision, batch_size, dtype)
        self._device = torch.device(device)
        if self._device.type == "cpu" and isinstance(encoder, PretrainedEncoder):
            encoder = encoder.with_folded_norms(tile_size)
        self._encoder = encoder.to(self._device)
        self._stains = stains_of(self._encoder)
        self._precision = PRECISIONS[precision]
        self._dtype = dtype
        self.batch_size = batch_size or (_CPU_BATCH if self._device.type == "cpu" else _GPU_BATCH)
        self._compute_size = self.batch_size
        pinned = self._device.type == "cuda"
        shape = (self.batch_size, tile_size, tile_size, 3)
        # Two: one is filled while the GPU reads the other.
        self._buffers = [torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned) for _ in range(1 + pinned)]
        self._running: Tensor | None = None

    @property
    def buffer(self) -> NDArray[np.uint8]:
        """The next batch, uint8 `(batch_size, tile_size, tile_size, 3)`, to be filled with tiles."""
        return self._buffers[0].numpy()

    @property
    def normalises_stains(self) -> bool:
        """Whether each bag needs `stain_values`."""
        return self._stains is not None

    def stain_values(self, sample: NDArray[np.uint8]) -> Tensor:
        """Return how a bag is changed by the stain normalisation of the encoder, `(1, values)`, on the device.

        Args:
            sample: uint8 `(tiles, rows, columns, 3)`, as in `BagBegun`.
        """
        assert self._stains is not None
        tiles = to_network_input(torch.from_numpy(np.array(sample)).to(self._device))
        values: Tensor = self._stains.values_of(tiles[None])
        return values

    def submit(self, num_tiles: int, stain_values: Tensor | None = None) -> NDArray[Any] | None:
        """Encode the batch in `buffer`, and return the features of the batch before.

        On a GPU the features of a batch are computed while the next one is filled.

        Args:
            num_tiles: Tiles in the batch; the rest is filled up.
            stain_values: `(num_tiles, values)`: for each tile those of its bag; `None` without stain normalisation.

        Returns:
            `(batch_size, embedding_dim)`; `None` for the first batch.
        """
        self._buffers[0][num_tiles:] = 0
        before = self.finish()
        if stain_values is not None:
            # A row of zeros leaves a tile as it is.
            stain_values = F.pad(stain_values, (0, 0, 0, self.batch_size - num_tiles))
        self._running = self._encode(self._buffers[0], stain_values)
        self._buffers.append(self._buffers.pop(0))
        return before

    def finish(self) -> NDArray[Any] | None:
        """Return the features of the last batch that was submitted; `None` if there is none."""
        running, self._running = self._running, None
        if running is None:
            return None
        # Beyond 65,504 float16 has no numbers; infinity is reported with the name of the slide.
        with np.errstate(over="ignore"):
            return running.float().cpu().numpy().astype(self._dtype)

    def _encode(self, tiles: Tensor, values: Tensor | None) -> Tensor:
        """Return the features of a batch, computed in halves if the memory of the GPU is exhausted."""
        while True:
            try:
                parts = tiles.split(self._compute_size)
                of_parts = [None] * len(parts) if values is None else values.split(self._compute_size)
                return torch.cat([self._compute(*part) for part in zip(parts, of_parts, strict=True)])
            except torch.OutOfMemoryError:
                if self._compute_size == 1:
                    raise ValueError(
                        f"the memory of {self._device} is too small for one tile; give device=cpu or a smaller encoder"
                    ) from None
                first = self._compute_size == self.batch_size
                self._compute_size = (self._compute_size + 1) // 2
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                if first:
                    _log.warning(
                        "the memory of %s is too small for batches of %d tiles: batches are halved until they fit; set "
                        "batch_size to avoid this", self._device, self.batch_size,
                    )  # fmt: skip

    def _compute(self, tiles: Tensor, values: Tensor | None) -> Tensor:
        enabled = self._precision is not None
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=self._precision, enabled=enabled),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            pixels = to_network_input(tiles.to(self._device, non_blocking=True))
            features: Tensor = self._encoder(pixels) if values is None else self._encoder(pixels, values)
        return features


def require_batches(tile_size: int, precision: str, batch_size: int | None, dtype: str) -> None:
    """Refuse options of `BatchEncoder` that are unknown or out of their range; the arguments are the same.

    Raises:
        ValueError: If one is, or a batch is larger than the memory of this machine.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision} is unknown; it must be one of {', '.join(PRECISIONS)}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype} is unknown; it must be one of {', '.join(DTYPES)}")
    if batch_size is None:
        return
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1, or auto")
    needed = batch_size * tile_size**2 * 3 * _BYTES
    if (memory := _memory()) is not None and needed > memory:
        raise ValueError(
            f"batch_size={batch_size} needs {needed / 1e9:,.1f} GB for tiles of {tile_size} px, but this machine has "
            f"{memory / 1e9:,.1f} GB; set a smaller one, or auto"
        )


def _memory() -> int | None:
    """Return the bytes of memory of this machine; `None` on a system that does not say it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def describe_encoder(card: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """Return the entry `encoder` of `store.json`: the card of the encoder with the precision that was used."""
    return dict(card) | {"precision": precision}
