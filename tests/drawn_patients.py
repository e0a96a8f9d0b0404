"""Sixty drawn patients with 114 slides: only one slide of a positive patient shows the lesion, so slides mislead."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from milpath.data.store.bag_store_writer import BagStoreWriter


class DrawnPatients(NamedTuple):
    """A study: a store of features with a bag per slide, and its two tables."""

    store: Path
    patients: Path
    slides: Path

    @property
    def options(self) -> dict[str, str]:
        """The tables as options of a data module."""
        return {"patients": str(self.patients), "slides": str(self.slides)}


def num_slides_of(num_patients: int = 60) -> list[int]:
    """Return 1, 2, 3, 1, 2, 3, ... slides, 114 for 60 patients: six of those with three have two."""
    counts = [1 + number % 3 for number in range(num_patients)]
    for number in range(2, 18, 3):
        counts[number] -= number < num_patients
    return counts


def draw_patients(folder: Path, num_patients: int = 60, *, image: bool = False) -> DrawnPatients:
    """Write the store, `clinical.csv` (patient_id, label, age, time, event) and `slides.csv` (slide_id, patient_id, scanner).

    The slides of a patient are not next to each other in the store. Bags hold 3 to 9 tiles; a positive patient has one slide
    of which two tiles have a large first feature.
    """
    rng, folder = np.random.default_rng(3), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    slides = [
        (f"slide_{number:02d}_{copy}", number, copy)
        for number, count in enumerate(num_slides_of(num_patients))
        for copy in range(count)
    ]
    slides.sort(key=lambda slide: (slide[2], slide[1]))
    with BagStoreWriter(folder / "store") as writer:
        for name, number, copy in slides:
            length = int(rng.integers(3, 10))
            tiles = rng.normal(0, 1, (length, 6)).astype(np.float32)
            if number % 2 and copy == num_slides_of(num_patients)[number] - 1:
                tiles[:2, 0] += 6
            if image:
                tiles = np.repeat(np.clip(tiles[:, :1] * 20 + 100, 0, 255), 16 * 16 * 3, 1).astype(np.uint8)
                tiles = tiles.reshape(length, 16, 16, 3)
            where = {"x": np.arange(length) % 3 * 16, "y": np.arange(length) // 3 * 16, "level": np.zeros(length, int)}
            writer.add(name, tiles, {}, where)
    rows = [
        f"P{number:02d},{number % 2},{40 + number},{12 + (7 * number) % 31 - 8 * (number % 2)},{int(number % 5 > 0)}"
        for number in range(num_patients)
    ]
    (folder / "clinical.csv").write_text("patient_id,label,age,time,event\n" + "\n".join(rows) + "\n")
    rows = [f"{name},P{number:02d},{'AB'[copy % 2]}" for name, number, copy in slides]
    (folder / "slides.csv").write_text("slide_id,patient_id,scanner\n" + "\n".join(rows) + "\n")
    return DrawnPatients(folder / "store", folder / "clinical.csv", folder / "slides.csv")
