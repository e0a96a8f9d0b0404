"""A segmentation network in an ONNX file that decides where tissue is; onnxruntime runs it, torch is not needed."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.records.digests import sha256_of_file
from milpath.slides.detection.stain_vectors import StainRange

INPUTS = ("rgb", "stains")
_KEYS = ("microns_per_pixel", "tissue_channels")
_MOST_TILE = 8192


@dataclass(frozen=True)
class TissueModelSpec:
    """What a network expects and what its output means.

    Attributes:
        microns_per_pixel: Resolution of its input.
        tissue_channels: Channels of its output that are tissue.
        input: "rgb" is red, green and blue from 0 to 1; "stains" is eosin, haematoxylin and optical density (see
            `StainRange`), each scaled to 0 to 1 over the window.
        window: Side of the windows in pixels.
        activation: "softmax" or "sigmoid" turns the output into probabilities; "none" if it is probabilities already.
    """

    microns_per_pixel: float
    tissue_channels: tuple[int, ...]
    input: str = "rgb"
    window: int = 512
    activation: str = "softmax"

    def __post_init__(self) -> None:
        if not 0 < self.microns_per_pixel < 1000:
            raise ValueError(f"microns_per_pixel={self.microns_per_pixel} must be above 0 and below 1000")
        if self.input not in INPUTS:
            raise ValueError(f"input={self.input} is unknown; it must be one of {', '.join(INPUTS)}")
        if self.activation not in ("softmax", "sigmoid", "none"):
            raise ValueError(f"activation={self.activation} is unknown; it must be one of softmax, sigmoid, none")
        if not 32 <= self.window <= _MOST_TILE:
            raise ValueError(f"window={self.window} must be from 32 to {_MOST_TILE} px")
        if not self.tissue_channels or min(self.tissue_channels) < 0:
            raise ValueError(f"tissue_channels={self.tissue_channels} must be channels of the output, counted from 0")

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> "TissueModelSpec":
        """Return the specification in the metadata of an ONNX file.

        Raises:
            ValueError: If an entry is missing or is not a number.
        """
        missing = [key for key in _KEYS if key not in metadata]
        if missing:
            raise ValueError(f"its metadata lack {' and '.join(missing)}")
        return cls(
            float(metadata["microns_per_pixel"]),
            tuple(int(channel) for channel in metadata["tissue_channels"].split(",")),
            metadata.get("input", "rgb"),
            int(metadata.get("window", "512")),
            metadata.get("activation", "softmax"),
        )


# Published files without metadata, by the SHA-256 of the .onnx file.
KNOWN_MODELS = {
    # SHELL v1 of the package lavlab-shell 0.9.1 (MIT licence), H&E of the prostate at 1 micron per pixel: lumen, epithelium,
    # everything else. Lumen includes glass, so that only epithelium is taken.
    "eb2cff4a9dd2155202a7adfc34ce883ad538b13edbe3b7b78e9b96817f6ab8c4": TissueModelSpec(
        1.0, (1,), "stains", 512, "sigmoid"
    ),
}


class TissueModel:
    """A network that says of each pixel whether it is tissue.

    Args:
        path: The ONNX file; one input `(1, 3, height, width)`, first output `(1, channels, height, width)`.

    Attributes:
        spec: What it expects and what its output means.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If onnxruntime is missing.
        ValueError: If it is not such a network, or its metadata do not say what it expects.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"tissue_model={path} does not exist; give an ONNX file")
        try:
            runtime: Any = import_module("onnxruntime")
        except ModuleNotFoundError:
            raise ImportError("tissue_model needs the package onnxruntime: pip install 'milpath[onnx]'") from None
        options = runtime.SessionOptions()
        # The workers share the cores.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = runtime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own extension module, derived from Exception
            raise ValueError(
                f"tissue_model={path} is not an ONNX network that can be run ({' '.join(str(error).split())[:200]})"
            ) from None
        known = KNOWN_MODELS.get(sha256_of_file(self.path))
        try:
            self.spec = known or TissueModelSpec.from_metadata(self._session.get_modelmeta().custom_metadata_map)
        except ValueError as error:
            raise ValueError(
                f"tissue_model={path}: {error}; write microns_per_pixel (such as 1.0) and tissue_channels (such as 0,1) "
                "into the metadata_props of the file"
            ) from None
        self._input = self._session.get_inputs()[0].name

    def probability(self, pixels: NDArray[np.uint8], stains: StainRange | None = None) -> NDArray[np.float32]:
        """Return the probability of tissue of each pixel of a window, `(height, width)` in [0, 1].

        Args:
            pixels: uint8 `(window, window, 3)` at the resolution of the network.
            stains: The stains of the slide, for a network that takes them.

        Raises:
            ValueError: If the network does not take such windows or returns something else.
        """
        if self.spec.input == "stains":
            assert stains is not None
            amounts = stains.amounts(pixels)
            low, high = amounts.min(axis=(0, 1)), amounts.max(axis=(0, 1))
            values = ((amounts - low) / np.maximum(high - low, 1e-8)).astype(np.float32)
        else:
            values = pixels.astype(np.float32) / np.float32(255)
        try:
            output = self._session.run(None, {self._input: np.ascontiguousarray(values.transpose(2, 0, 1))[None]})[0]
        except Exception as error:
            raise ValueError(
                f"tissue_model={self.path} does not take windows of {pixels.shape[0]} x {pixels.shape[1]} px "
                f"({' '.join(str(error).split())[:200]})"
            ) from None
        output = np.asarray(output, np.float32)
        channels = self.spec.tissue_channels
        if output.ndim != 4 or output.shape[2:] != pixels.shape[:2] or output.shape[1] <= max(channels):
            raise ValueError(
                f"tissue_model={self.path} must return (1, channels, height, width) with channels up to {max(channels)} for "
                f"windows of {pixels.shape[0]} px, not {output.shape}"
            )
        if not np.isfinite(output).all():
            raise ValueError(f"tissue_model={self.path} returns values that are not finite")
        return np.asarray(_ACTIVATIONS[self.spec.activation](output[0], list(channels)).clip(0, 1), np.float32)


def _softmax(values: NDArray[np.float32], channels: list[int]) -> NDArray[np.float32]:
    powers = np.exp(values - values.max(axis=0))
    return np.asarray(powers[channels].sum(axis=0) / powers.sum(axis=0))


def _sigmoid(values: NDArray[np.float32], channels: list[int]) -> NDArray[np.float32]:
    return np.asarray((1 / (1 + np.exp(-values.clip(-50, 50))))[channels].max(axis=0))


def _none(values: NDArray[np.float32], channels: list[int]) -> NDArray[np.float32]:
    return np.asarray(values[channels].sum(axis=0))


_ACTIVATIONS: dict[str, Callable[[NDArray[np.float32], list[int]], NDArray[np.float32]]] = {
    "softmax": _softmax,
    "sigmoid": _sigmoid,
    "none": _none,
}
