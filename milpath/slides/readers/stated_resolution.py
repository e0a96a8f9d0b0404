"""The resolution that a file states, in microns per pixel, from the places and units in which programs write it."""

import math
import re
import unicodedata
from typing import Any

import tifffile

_INCH = 25_400.0
# Prefixes of the metre, their names and powers of ten.
_PREFIXES = (
    ("Y", "yotta", 24), ("Z", "zetta", 21), ("E", "exa", 18), ("P", "peta", 15), ("T", "tera", 12), ("G", "giga", 9),
    ("M", "mega", 6), ("k", "kilo", 3), ("h", "hecto", 2), ("da", "deca", 1), ("", "", 0), ("d", "deci", -1),
    ("c", "centi", -2), ("m", "milli", -3), ("μ", "micro", -6), ("n", "nano", -9), ("p", "pico", -12), ("f", "femto", -15),
    ("a", "atto", -18), ("z", "zepto", -21), ("y", "yocto", -24),
)  # fmt: skip
# The symbols of OME, whose capitals count: Mm is a million metres. A parsec is 648,000 / pi astronomical units.
_OF_SYMBOL = {f"{symbol}m": float(f"1e{power + 6}") for symbol, _, power in _PREFIXES} | {
    "Å": 1e-4, "thou": _INCH / 1000, "li": _INCH / 12, "in": _INCH, "ft": 12 * _INCH, "yd": 36 * _INCH,
    "mi": 63_360 * _INCH, "ua": 149_597_870_700e6, "ly": 9_460_730_472_580_800e6,
    "pc": 648_000 / math.pi * 149_597_870_700e6, "pt": _INCH / 72,
}  # fmt: skip
# Names, such as those of OME-NGFF, and what other programs write, in any capitals.
_OF_NAME = {f"{name}met{end}": float(f"1e{power + 6}") for _, name, power in _PREFIXES for end in ("er", "re")} | {
    "um": 1.0, "micron": 1.0, "microns": 1.0, "\\u00b5m": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6,
    "å": 1e-4, "angstrom": 1e-4, "in": _INCH, "inch": _INCH, "inches": _INCH, "foot": 12 * _INCH, "yard": 36 * _INCH,
    "mile": 63_360 * _INCH, "parsec": _OF_SYMBOL["pc"],
}  # fmt: skip
_MICRONS_PER_UNIT = {2: 25_400.0, 3: 10_000.0}


def microns_in(value: str | float | None, unit: str) -> float | None:
    """Return a length in microns, `None` if it is not a positive number or the unit is not a length.

    Example:
        >>> microns_in("499", "nm"), microns_in("0.000499", "mm"), microns_in("1", "pixel")
        (0.499, 0.499, None)
    """
    factor = _microns_of(unit)
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
        per_unit = _microns_of(found[1])
    if per_unit is None:
        return None, None
    return _per_pixel(page, "XResolution", per_unit), _per_pixel(page, "YResolution", per_unit)


def _microns_of(unit: str) -> float | None:
    """Return the microns of a unit, `None` if it is not a length."""
    unit = unicodedata.normalize("NFKC", unit.strip())
    return _OF_SYMBOL.get(unit) or _OF_NAME.get(unit.casefold())


def _per_pixel(page: tifffile.TiffPage, tag: str, per_unit: float) -> float | None:
    """Return the microns per pixel of a tag that gives the pixels per unit."""
    value: Any = page.tags.valueof(tag)
    if value is None:
        return None
    numerator, denominator = value if isinstance(value, tuple) else (value, 1)
    return per_unit * denominator / numerator if numerator and denominator else None
