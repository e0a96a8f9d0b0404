"""What the app shows of a prediction."""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class ShownSlide:
    """A slide of a bag.

    Attributes:
        name: Name of the slide, chosen by the sender: must be escaped wherever it is shown.
        num_tiles: Number of its tiles.
        attention: Share of the attention of the bag, in [0, 1].
        overlay: Attention on the slide; None if the positions of the tiles are unknown.
        class_overlays: Words and picture of the map of each class; empty for a network without maps per class.
        viewer: A page of its own that shows the slide under its attention; empty where there is no overlay.
    """

    name: str
    num_tiles: int
    attention: float
    overlay: Image.Image | None
    class_overlays: tuple[tuple[str, Image.Image], ...]
    viewer: str = ""


@dataclass(frozen=True)
class Answer:
    """Prediction of one slide or patient, kept only in memory.

    Attributes:
        name: Name of the slide, or of those of the patient, chosen by the sender: must be escaped wherever it is shown.
        class_names: Names of the classes.
        probabilities: Probability of each class; they sum to 1.
        predicted: Name of the predicted class.
        task: "binary", "nominal" or "ordinal".
        threshold: Probability of the second class at or above which it is predicted; None for more than two classes.
        deferred: Whether the slide is deferred to a pathologist.
        defer_below: A highest class probability below this is deferred; 0 if the network has no such rule.
        num_tiles: Number of tiles in the bag.
        resolution: What to know about the resolution of the tiles, if it is unknown; empty otherwise.
        slides: The slides of the bag: one, or those of a patient.
        montage: The bag with its weights.
        top_tiles: The tiles with the highest and the lowest attention.
        numbers: Title and text of each number that a target without classes predicts; empty with classes, which have
            probabilities instead.
        prediction_set: The classes or the intervals that hold the truth with the coverage of the network, in sentences;
            empty for a network without.
        warning: What the training data say against themselves, in words; empty for tissue.
        notes: What else to know, in lines: a decision that was chosen on patients, stains that were not normalised.
        folds: How far the folds of an average differ, in a sentence; empty for one network.
        of_patient: Whether the bag is a patient.
        unfamiliar: Whether the slide is above the bound of unfamiliarity, and therefore deferred.
        unfamiliarity: How unfamiliar the slide is, in sentences.
    """

    name: str
    class_names: tuple[str, ...]
    probabilities: tuple[float, ...]
    predicted: str
    task: str
    threshold: float | None
    deferred: bool
    defer_below: float
    num_tiles: int
    resolution: str
    slides: tuple[ShownSlide, ...]
    montage: Image.Image
    top_tiles: Image.Image
    numbers: tuple[tuple[str, str], ...] = ()
    prediction_set: str = ""
    warning: str = ""
    notes: tuple[str, ...] = ()
    folds: str = ""
    of_patient: bool = False
    unfamiliar: bool = False
    unfamiliarity: str = ""

    @property
    def overlay(self) -> Image.Image | None:
        """Attention on the first slide; None if the positions of the tiles are unknown."""
        return self.slides[0].overlay

    @property
    def class_overlays(self) -> tuple[tuple[str, Image.Image], ...]:
        """Words and picture of the map of each class on the first slide."""
        return self.slides[0].class_overlays
