"""Reader for plain images (PNG, JPEG, BMP, WebP) as slides with one level."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from milpath.slides.readers.rgb import image_to_rgb
from milpath.slides.readers.slide import Size, Slide

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")


class PictureSlide(Slide):
    """An image that Pillow reads as a whole, within its limit against decompression bombs.

    Args:
        path: The file.

    Raises:
        ValueError: If it is not an image, is damaged, or is too large.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._pixels: NDArray[np.uint8] | None = None
        try:
            with warnings.catch_warnings():
                # Pillow warns about a possible bomb and refuses a certain one; here both are errors.
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                self._image = Image.open(path, formats=_FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"{path.name} is not an image that can be read; copy or download it again") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(
                f"{path.name} is too large for a plain image ({error}); convert it to a tiled TIFF "
                "(vips tiffsave --tile --pyramid)"
            ) from None
        except (OSError, SyntaxError, ValueError, OverflowError) as error:
            raise ValueError(f"{path.name} is a damaged image ({error}); copy or download it again") from None
        num_frames = int(getattr(self._image, "n_frames", 1))
        if num_frames > 1 and self._image.format != "MPO":
            self.close()
            raise ValueError(f"{path.name} holds {num_frames} images, and a slide is one; write one of them")
        # "RGB;16B" and the like, known until the image is decoded.
        self._has_sixteen_bits = any(str(part[3]).endswith(";16B") for part in self._image.tile)
        self.level_sizes = (Size(*self._image.size),)

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region; the first read decodes the image."""
        if self._pixels is None:
            try:
                self._pixels = image_to_rgb(self._image)
                self.highest_sample = self._find_highest_sample()
            except (OSError, SyntaxError, ValueError, OverflowError, EOFError, IndexError) as error:
                raise ValueError(f"{self.path.name} is a damaged image ({error}); copy or download it again") from None
        return self._pixels[y : y + height, x : x + width]

    def _find_highest_sample(self) -> int:
        """Return the largest sample of a decoded image of 16 bits, 0 for 8 bits."""
        if not self._has_sixteen_bits:
            return 0
        samples = np.asarray(self._image)
        if samples.ndim == 2:
            return int(samples.max(initial=0))
        return int(samples[..., :3].max(initial=0)) << 8 | 255  # of colours Pillow keeps the upper half

    def close(self) -> None:
        """Close the file."""
        self._image.close()
