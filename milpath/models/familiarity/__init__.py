"""Whether a network knows slides like these: a model of the embeddings of its training bags."""

from milpath.models.familiarity.familiar_slides import LEAST_BAGS, TIE, FamiliarSlides, familiar_of
from milpath.models.familiarity.fold_familiarity import Familiarity, Unfamiliarity, joined, say_unknown
from milpath.models.familiarity.shrunk_gaussian import ShrunkGaussian, fit_gaussian

__all__ = [
    "LEAST_BAGS",
    "TIE",
    "FamiliarSlides",
    "Familiarity",
    "ShrunkGaussian",
    "Unfamiliarity",
    "familiar_of",
    "fit_gaussian",
    "joined",
    "say_unknown",
]
