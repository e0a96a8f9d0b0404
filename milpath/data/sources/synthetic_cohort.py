"""A drawn cohort: patients with slides, clinical data with a known truth, and two scanners, without a download."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.loading.batch_plan import require_at_least
from milpath.data.loading.threads import map_in_threads
from milpath.data.sources.drawn_tissue import BENIGN, INFLAMED, darkest_first, draw_stains, stain_tiles
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.atomic_files import write_text
from milpath.records.data_warning import warning_of_source

# Increase it when pictures or tables change: stores are found by the description of their content.
_VERSION = 1
# Factors of red, green and blue: the second scanner sees every tissue darker and bluer.
SCANNER_GAIN = {"alpha": (1.0, 1.0, 1.0), "beta": (0.86, 0.94, 1.0)}
MAX_SLIDES = 4
# Survival without lesions: Weibull with this shape and median in months; censoring is uniform in months.
SHAPE, MEDIAN_MONTHS, CENSORED_MONTHS = 1.3, 60.0, (12.0, 96.0)
# The marker in the blood, in ng/ml: without lesions, and its increase if all tissue were lesion.
MARKER_WITHOUT, MARKER_SLOPE = 20.0, 50.0
_SMOKING = ("never", "former", "current")


@dataclass(frozen=True)
class DrawnPatient:
    """A patient.

    Attributes:
        slides: Kind of each tile of each slide, `(slides, tiles)` (see `draw_stains`).
        scanner: The scanner of all slides.
        clinical: Row of the clinical table, without the name.
        log_hazard: Log of the true hazard, relative to a patient without lesions.
    """

    slides: np.ndarray
    scanner: str
    clinical: dict[str, Any]
    log_hazard: float


class SyntheticCohort:
    """Patients with one to four drawn slides, and a clinical table of which the truth is known.

    About a third of the patients have no lesion; in the others lesions take 10 to 70 % of the tiles, spread over the slides.
    All that is known of a patient depends on this share `x` and on nothing else: the hazard is proportional to
    `hazard_ratio ** (x / 0.5)`, censoring is independent of it; `marker` is `20 + 50 x` plus normal noise;
    `tumour_percent` is `100 x`; `grade` is none, low (below 35 %) or high; `diagnosis` is malignant with any lesion. Age,
    sex and smoking are independent of everything, and some cells of age and smoking are empty.

    Args:
        num_patients: Number of patients.
        num_tiles: Tiles per slide, darkest first as in PANDA.
        tile_size: Width and height of a tile in pixels.
        hazard_ratio: Hazard of a patient whose tissue is half lesion, relative to one without lesions; > 0.
        marker_noise: Standard deviation of the noise of the marker, in ng/ml; >= 0.
        shortcut: Share of patients whose scanner says their diagnosis (alpha benign, beta malignant), in [0, 1]; the others
            have either scanner by chance.
        drawing_seed: Seed of all draws. Patient n does not depend on the number of patients.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> cohort = SyntheticCohort(num_patients=2)
        >>> cohort.slides_table().columns.tolist()
        ['slide_id', 'patient_id', 'scanner']
    """

    synthetic = True
    label_column = "diagnosis"

    def __init__(
        self,
        num_patients: int = 60,
        num_tiles: int = 8,
        tile_size: int = 64,
        hazard_ratio: float = 10.0,
        marker_noise: float = 5.0,
        shortcut: float = 0.0,
        drawing_seed: int = 0,
    ) -> None:
        require_at_least(num_patients=(num_patients, 2), num_tiles=(num_tiles, 1), tile_size=(tile_size, 16))
        for name, value, sound, words in (
            ("hazard_ratio", hazard_ratio, 0 < hazard_ratio < math.inf, "a positive number"),
            ("marker_noise", marker_noise, 0 <= marker_noise < math.inf, "0 or more"),
            ("shortcut", shortcut, 0 <= shortcut <= 1, "in [0, 1]"),
        ):
            if not sound:
                raise ValueError(f"data.{name} is {value}; it must be {words}")
        self.num_patients = num_patients
        self.num_tiles = num_tiles
        self.tile_size = tile_size
        self.hazard_ratio = hazard_ratio
        self.marker_noise = marker_noise
        self.shortcut = shortcut
        self.drawing_seed = drawing_seed

    def describe(self) -> dict[str, Any]:
        """Return the parameters."""
        return {"version": _VERSION} | vars(self)

    def clinical_table(self) -> pd.DataFrame:
        """Return one row per patient: `patient_id`, then what is known; `time` in months, `event` 1 or 0 if censored."""
        return pd.DataFrame([{"patient_id": _name(n)} | self._patient(n).clinical for n in range(self.num_patients)])

    def slides_table(self) -> pd.DataFrame:
        """Return one row per slide: `slide_id`, `patient_id`, `scanner`."""
        rows = []
        for number in range(self.num_patients):
            patient = self._patient(number)
            rows += [
                {"slide_id": _slide(number, k), "patient_id": _name(number), "scanner": patient.scanner}
                for k in range(len(patient.slides))
            ]
        return pd.DataFrame(rows)

    def truth_table(self) -> pd.DataFrame:
        """Return what no network is told, one row per patient: `patient_id` and `log_hazard`."""
        hazards = [self._patient(number).log_hazard for number in range(self.num_patients)]
        return pd.DataFrame({"patient_id": map(_name, range(self.num_patients)), "log_hazard": hazards})

    def label_table(self) -> pd.DataFrame:
        """Return one row per slide, with the columns of its patient."""
        table = self.slides_table().merge(self.clinical_table(), on="patient_id", validate="many_to_one")
        return table.rename(columns={"slide_id": "bag_id"})

    def write(self, writer: BagStoreWriter) -> None:
        """Draw every slide into a store, with the columns of its patient."""
        self._write(writer, self.label_table().set_index("bag_id"))

    def write_folder(self, folder: str | Path) -> Path:
        """Write the cohort as a study has it: a tile store, a clinical table, and a table of slides.

        Args:
            folder: Output folder with `store`, `clinical.csv` and `slides.csv`; created if it does not exist.

        Returns:
            The folder.

        Raises:
            FileExistsError: If it already holds a store.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        source = {"name": type(self).__name__, "parameters": self.describe()}
        with BagStoreWriter(folder / "store", source, {"warning": warning_of_source(self)}) as writer:
            self._write(writer, self.slides_table().set_index("slide_id")[[]])
        write_text(folder / "clinical.csv", self.clinical_table().to_csv(index=False))
        write_text(folder / "slides.csv", self.slides_table().to_csv(index=False))
        return folder

    def _write(self, writer: BagStoreWriter, columns: pd.DataFrame) -> None:
        """Draw the slides of a table, whose index names them, into a store."""
        # The tiling is PANDA's: a network trained on it cuts slides like one trained on PANDA.
        writer.extra["tiling"] = {"rule": "darkest", "tile_size": self.tile_size, "num_tiles": self.num_tiles}
        writer.expected_bags = len(columns)
        numbers = [(number, k) for number in range(self.num_patients) for k in range(len(self._patient(number).slides))]
        drawn = map_in_threads(self._draw_slide, numbers)
        for (slide_id, labels), (tiles, rows) in zip(columns.iterrows(), drawn, strict=True):
            writer.add(str(slide_id), tiles, {str(name): value for name, value in labels.items()}, rows)

    def _draw_slide(self, place: tuple[int, int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the tiles of a slide, `(tiles, size, size, 3)` uint8, and their columns of `tiles.csv`."""
        patient = self._patient(place[0])
        rng = np.random.default_rng([self.drawing_seed, *place, 1])
        kinds = patient.slides[place[1]]
        tiles = stain_tiles(draw_stains(kinds, self.tile_size, rng), (1.0, 1.0), rng)
        return darkest_first((tiles * np.array(SCANNER_GAIN[patient.scanner]) + 0.5).astype(np.uint8), kinds)

    def _patient(self, number: int) -> DrawnPatient:
        """Draw what is known about a patient, and which tiles hold a lesion."""
        rng = np.random.default_rng([self.drawing_seed, number])
        num_slides = int(rng.integers(1, MAX_SLIDES + 1))
        kinds = np.where(rng.random(num_slides * self.num_tiles) < 0.3, INFLAMED, BENIGN)
        wanted = float(rng.uniform(0.1, 0.7)) * (rng.random() < 0.65)
        num_lesions = max(round(wanted * len(kinds)), int(wanted > 0))
        kinds[rng.permutation(len(kinds))[:num_lesions]] = rng.integers(4, 6, num_lesions)
        share = num_lesions / len(kinds)
        log_hazard = math.log(self.hazard_ratio) * share / 0.5
        told, scanner = rng.random() < self.shortcut, str(rng.choice(list(SCANNER_GAIN)))
        if told:
            scanner = "beta" if share > 0 else "alpha"
        time = MEDIAN_MONTHS * float((rng.exponential() / math.log(2) / math.exp(log_hazard)) ** (1 / SHAPE))
        censored = float(rng.uniform(*CENSORED_MONTHS))
        age, smoking = round(float(rng.normal(66, 9)), 1), str(rng.choice(_SMOKING))
        known = rng.random(2) >= 0.1
        clinical = {
            "age": age if known[0] else np.nan,
            "sex": str(rng.choice(("female", "male"))),
            "smoking": smoking if known[1] else np.nan,
            "diagnosis": "malignant" if share > 0 else "benign",
            "grade": "none" if share == 0 else "low" if share < 0.35 else "high",
            "tumour_percent": round(100 * share, 2),
            "marker": round(MARKER_WITHOUT + MARKER_SLOPE * share + self.marker_noise * float(rng.normal()), 3),
            "time": max(round(min(time, censored), 2), 0.01),
            "event": int(time <= censored),
        }
        return DrawnPatient(kinds.reshape(num_slides, self.num_tiles), scanner, clinical, log_hazard)


def _name(number: int) -> str:
    return f"patient_{number:04d}"


def _slide(number: int, k: int) -> str:
    return f"p{number:04d}_slide_{k}"
