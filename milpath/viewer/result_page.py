"""A result as self-contained HTML: pictures are inlined, nothing is written to disk, and names are escaped."""

import base64
import math
from collections.abc import Sequence
from io import BytesIO

from markupsafe import Markup, escape
from PIL import Image

from milpath.records.error_text import counted
from milpath.viewer.shown_answer import Answer, ShownSlide

_QUALITY = 90
_ROW = Markup(
    '<tr><th scope="row">{}</th><td>{:.3f}</td><td aria-hidden="true"><i style="width:{:.1f}%"></i></td></tr>'
)


def render_answer(answer: Answer) -> str:
    """Return a result as an HTML fragment."""
    parts = [
        Markup('<section class="answer" aria-label="Result"><h2>{}</h2>').format(answer.name),
        Markup('<p class="refer" role="note"><strong>{}</strong></p>').format(sentence(answer.warning))
        if answer.warning
        else "",
        *(_numbers(answer) if answer.numbers else _classes(answer)),
        *_slides(answer),
        Markup('<p class="{}">{}</p>').format("refer" if answer.unfamiliar else "known", answer.unfamiliarity)
        if answer.unfamiliarity
        else "",
        *(Markup("<p>{}</p>").format(words) for words in (answer.folds, answer.prediction_set) if words),
        *(Markup("<p>{}</p>").format(sentence(words)) for words in (*answer.notes, answer.resolution) if words),
        *_figures(answer),
        Markup("</section>"),
    ]
    return str(Markup().join(parts))


def render_refusal(line: str) -> str:
    """Return why there is no result, in the place of the result."""
    return str(Markup('<section class="refused" role="alert"><h2>No result</h2><p>{}</p></section>').format(line))


def render_waiting(names: Sequence[str]) -> str:
    """Return what is done with an upload until there is a result."""
    said = ", ".join(names[:3]) + (f" and {counted(len(names) - 3, 'more file')}" if len(names) > 3 else "")
    page = Markup(
        '<p class="waiting" role="status">Reading {}. Uploads are answered one at a time, in the order in which they come; '
        "the answer appears here.</p>"
    )
    return str(page.format(said or "the upload"))


def call_in_words(answer: Answer) -> str:
    """Return the answer in one line."""
    if answer.numbers:
        return ", ".join(f"{title} {text}" for title, text in answer.numbers[:3])
    return f"{answer.predicted}, probability {answer.probabilities[answer.class_names.index(answer.predicted)]:.3f}"


def sentence(words: str) -> str:
    """Return words as a sentence."""
    return f"{words[:1].upper()}{words[1:]}."


def _classes(answer: Answer) -> list[Markup]:
    """Return the predicted class, the advice and the probabilities."""
    rows = Markup().join(
        _ROW.format(name, value, 100 * value)
        for name, value in zip(answer.class_names, answer.probabilities, strict=True)
    )
    return [
        Markup('<p class="call">Predicted <strong>{}</strong></p><p>{}</p>').format(answer.predicted, say_call(answer)),
        Markup('<p class="{}">{}</p>').format("refer" if answer.deferred else "keep", say_advice(answer)),
        Markup("<table><caption>Probability of each class</caption>{}</table>").format(rows),
    ]


def _numbers(answer: Answer) -> list[Markup]:
    """Return the predicted numbers with their units."""
    title, text = answer.numbers[0]
    rows = Markup().join(Markup('<tr><th scope="row">{}</th><td>{}</td></tr>').format(*pair) for pair in answer.numbers)
    return [
        Markup('<p class="call">Predicted {} <strong>{}</strong></p><p>From {}.</p>').format(
            title, text, _tiles(answer)
        ),
        Markup('<p class="refer">{}</p>').format(say_advice(answer)) if answer.deferred else Markup(),
        Markup("<table><caption>Predicted numbers</caption>{}</table>").format(rows),
    ]


def say_call(answer: Answer) -> str:
    """Return a sentence on how the class was predicted from the probabilities."""
    tiles = _tiles(answer)
    if answer.task == "ordinal":
        return f"The median of {len(answer.class_names)} ordered classes by their probabilities, from {tiles}."
    if answer.threshold is None:
        return f"The most probable of {len(answer.class_names)} classes, from {tiles}."
    probability, name = answer.probabilities[1], answer.class_names[1]
    verb = "reaches" if probability >= answer.threshold else "is below"
    probable, threshold = _apart(probability, answer.threshold)
    return f"The probability of {name}, {probable}, {verb} the threshold of {threshold}; from {tiles}."


def say_advice(answer: Answer) -> str:
    """Return a sentence on whether to defer to a pathologist."""
    said = "prediction" if answer.numbers else "probability"
    if answer.warning:
        return f"Refer to a person, whatever the {said}."  # The warning stands above.
    if answer.unfamiliar:
        return f"Refer to a person, whatever the {said}: the network does not know slides like this one."
    largest = max(answer.probabilities)
    certainty, bound = _apart(largest, answer.defer_below)
    if answer.defer_below == 0:
        return "This network has no deferral threshold; judge its confidence yourself."
    if answer.deferred:
        return (
            f"Defer to a pathologist: the network is uncertain. Its highest probability, {certainty}, is below {bound}, "
            "the deferral threshold of this network."
        )
    return (
        f"No deferral by the network's rule: its highest probability, {certainty}, reaches {bound}, "
        "the deferral threshold of this network."
    )


def _apart(first: float, second: float) -> tuple[str, str]:
    """Return two numbers with enough digits to distinguish them, at least three."""
    gap = abs(first - second)
    digits = 3 if gap == 0 else min(max(3, math.ceil(-math.log10(gap)) + 1), 9)
    return f"{first:.{digits}f}", f"{second:.{digits}f}"


def _tiles(answer: Answer) -> str:
    """Return the number of tiles, and of the slides of a patient."""
    tiles = counted(answer.num_tiles, "tile")
    return f"{tiles} of {counted(len(answer.slides), 'slide')} of one patient" if answer.of_patient else tiles


def _slides(answer: Answer) -> list[Markup]:
    """Return the share of the attention of each slide of a patient."""
    if not answer.of_patient:
        return []
    rows = Markup().join(_ROW.format(slide.name, slide.attention, 100 * slide.attention) for slide in answer.slides)
    caption = "Share of the attention by slide of the patient"
    return [Markup("<table><caption>{}</caption>{}</table>").format(caption, rows)]


def _figures(answer: Answer) -> list[Markup]:
    """Return the pictures with their captions."""
    figures = []
    scale = ", on one scale for all slides of the patient" if len(answer.slides) > 1 else ""
    for slide in answer.slides:
        of_slide = f" {slide.name}" if scale else ""
        if slide.overlay is None:
            text = f"No overlay{' of' * bool(scale)}{of_slide}: the positions of the tiles on the slide are unknown."
            figures.append(Markup("<p>{}</p>").format(text))
            continue
        text = f"Attention on the slide{of_slide}{scale}: how much each tile contributed."
        text += " Attention is not evidence of disease."
        pictures = [_figure(slide.overlay, f"Attention on the slide {slide.name}", text)]
        for words, picture in slide.class_overlays:
            text = (
                f"{words[0].upper()}{words[1:]}{' on the slide' * bool(scale)}{of_slide}, on one scale for all classes."
            )
            pictures.append(_figure(picture, f"{words} on the slide {slide.name}", text))
        summary = f"{'Pictures' if slide.class_overlays else 'Picture'} of the attention{' on' * bool(scale)}{of_slide}"
        figures += [_viewer(slide), Markup("<details><summary>{}</summary>").format(summary), *pictures]
        figures.append(Markup("</details>"))
    text = "The bag: its tiles with their weights, highest first. The weights of all tiles sum to 1."
    figures.append(_figure(answer.montage, f"Tiles of {answer.name} with their weights", text))
    text = "The tiles with the highest and the lowest attention."
    figures.append(_figure(answer.top_tiles, f"Tiles of {answer.name} with the highest and the lowest attention", text))
    return figures


def _viewer(slide: ShownSlide) -> Markup:
    """Return the viewer of a slide in a frame of its own, whose script cannot reach the page."""
    if not slide.viewer:
        return Markup()
    frame = Markup('<iframe class="viewer" title="{}" sandbox="allow-scripts" srcdoc="{}"></iframe>')
    return frame.format(f"The slide {slide.name} under its attention", slide.viewer)


def _figure(picture: Image.Image, alternative: str, caption: str) -> Markup:
    """Return a picture inlined as a data URI."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return Markup('<figure><img src="data:image/jpeg;base64,{}" alt="{}"><figcaption>{}</figcaption></figure>').format(
        data, alternative, escape(caption)
    )
