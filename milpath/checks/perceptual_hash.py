"""Perceptual hash of a picture that survives compression, scaling, turns, mirroring and changes of brightness."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

# Pixels along a side of the shrunken picture, and low frequencies along a side of its cosine transform: 256 bits.
_SIDE, _FREQUENCIES = 64, 16
NUM_BITS = _FREQUENCIES**2
NUM_ORIENTATIONS = 8
Hashes = NDArray[np.uint64]
# The mirror image changes the sign of the odd frequencies along its axis.
_ODD = np.arange(_FREQUENCIES) % 2 == 1


def perceptual_hash(pixels: NDArray[np.uint8]) -> Hashes:
    """Return the signs of the low frequencies of the brightness of a picture, uint64 `(4,)`.

    The mean brightness is left out, and so is the size: the picture is shrunken to a square.

    Args:
        pixels: uint8 `(height, width, 3)`.

    References:
        Zauner. Implementation and benchmarking of perceptual image hash functions. 2010 (the hash by cosine transform).
    """
    waves = dctn(_shrunken(pixels), norm="ortho")[:_FREQUENCIES, :_FREQUENCIES]
    return _packed(waves > 0)


def is_blank(pixels: NDArray[np.uint8]) -> bool:
    """Return whether a picture shows nothing that a hash could tell apart: its brightness hardly varies.

    Example:
        >>> is_blank(np.full((8, 8, 3), 240, np.uint8))
        True
    """
    return float(_shrunken(pixels).std()) < 2


def _shrunken(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the brightness of a picture, `(64, 64)`; a mirrored picture gives the mirrored result."""
    grey = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return np.asarray(grey, dtype=np.float64)


def orientations(hashes: Hashes) -> Hashes:
    """Return the hashes of the pictures turned by 0, 90, 180, 270 degrees and mirrored, uint64 `(8, pictures, 4)`.

    Args:
        hashes: `(pictures, 4)`.

    Example:
        >>> picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        >>> turned = perceptual_hash(np.ascontiguousarray(np.rot90(picture)))
        >>> bool((orientations(perceptual_hash(picture)[None])[:, 0] == turned).all(axis=1).any())
        True
    """
    bits = np.unpackbits(hashes.view(np.uint8), axis=-1).reshape(len(hashes), _FREQUENCIES, _FREQUENCIES).astype(bool)
    found = []
    for picture in (bits, bits.swapaxes(1, 2)):
        for down in (False, True):
            for across in (False, True):
                found.append(picture ^ ((_ODD & down)[:, None] ^ (_ODD & across)[None]))
    return np.stack([_packed(each) for each in found])


def steady_bits(hashes: Hashes) -> NDArray[np.uint64]:
    """Return the bits of even frequencies, which are the same for a picture and its mirror images, uint64 `(pictures,)`."""
    bits = np.unpackbits(hashes.view(np.uint8), axis=-1).reshape(len(hashes), _FREQUENCIES, _FREQUENCIES)
    even = np.ascontiguousarray(bits[:, ::2, ::2].reshape(len(hashes), -1))
    return np.packbits(even, axis=-1).view(np.uint64)[:, 0]


def hash_of_text(text: str) -> Hashes:
    """Return the hash that `text_of_hash` wrote.

    Raises:
        ValueError: If it is not 64 hexadecimal digits.
    """
    content = bytes.fromhex(text)
    if len(content) * 8 != NUM_BITS:
        raise ValueError(f"a hash has {NUM_BITS // 4} hexadecimal digits, not {len(text)}")
    return np.frombuffer(content, dtype=np.uint64).copy()


def text_of_hash(hashed: Hashes) -> str:
    """Return a hash as 64 hexadecimal digits."""
    return hashed.tobytes().hex()


def _packed(bits: NDArray[np.bool_]) -> Hashes:
    """Return bits of a square, `(..., 16, 16)`, as uint64 `(..., 4)`; the mean brightness is always 0."""
    bits = bits.copy()
    bits[..., 0, 0] = False
    flat = np.ascontiguousarray(bits.reshape(*bits.shape[:-2], NUM_BITS))
    return np.packbits(flat, axis=-1).view(np.uint64)
