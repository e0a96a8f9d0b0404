"""The resolution that a file states, in microns per pixel, from the places and units in which programs write it."""

import math
import re
from typing import Any

import tifffile

_MICRONS = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "\\u00b5m": 1.0, "nm": 1e-3, "å": 1e-4, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25_400.0, "inch": 25_400.0,
    "inches": 25_400.0,
}  # fmt: skip
_MICRONS_PER_UNIT = {2: 25_400.0, 3: 10_000.0}


def microns_in(value: str | float | None, unit: str) -> float | None:
    """Return a length in microns, `None` if it is not a positive number or the unit is not a length.

    Example:
        >>> microns_in("499", "nm"), microns_in("0.000499", "mm"), microns_in("1", "pixel")
        (0.499, 0.499, None)
    """
    factor = _MICRONS.get(unit.strip().casefold())
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    if factor is None or not math.isfinite(number) or number <= 0:
        return None
    return float(f"{number * factor:.12g}")


def microns_of_tiff(page: tifffile.TiffPage) -> tuple[float | None, float | None]:
    """Return width and height of a pixel from the description of Aperio or ImageJ, or from the resolution tags.

    Args:
        page: The page of level 0.
    """
    description = str(page.description or "")[:65536]
    if found := re.search(r"\bMPP\s*=\s*([0-9.eE+-]+)", description):
        return (microns_in(found[1], "um"),) * 2
    if found := re.search(r"<PixelSizeMicrons>\s*([0-9.eE+-]+)\s*</PixelSizeMicrons>", description):
        return (microns_in(found[1], "um"),) * 2
    unit = page.tags.valueof("ResolutionUnit")
    per_unit = _MICRONS_PER_UNIT.get(int(unit)) if unit is not None else None
    # ImageJ writes pixels per unit of its own description.
    if description.startswith("ImageJ=") and (found := re.search(r"^unit=(.+)$", description, re.MULTILINE)):
        per_unit = _MICRONS.get(found[1].strip().casefold())
    if per_unit is None:
        return None, None
    return _per_pixel(page, "XResolution", per_unit), _per_pixel(page, "YResolution", per_unit)


def _per_pixel(page: tifffile.TiffPage, tag: str, per_unit: float) -> float | None:
    """Return the microns per pixel of a tag that gives the pixels per unit."""
    value: Any = page.tags.valueof(tag)
    if value is None:
        return None
    numerator, denominator = value if isinstance(value, tuple) else (value, 1)
    return per_unit * denominator / numerator if numerator and denominator else None
