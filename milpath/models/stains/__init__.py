"""Normalisation of the colours of stains, bag by bag on the device, as part of a network's encoder."""

from milpath.models.stains.stain_methods import STAIN_METHODS
from milpath.models.stains.stain_normalisation import StainNormalisation, stains_in, unchanged_note
from milpath.records.stain_sample import sampled_tiles

__all__ = ["STAIN_METHODS", "StainNormalisation", "sampled_tiles", "stains_in", "unchanged_note"]
