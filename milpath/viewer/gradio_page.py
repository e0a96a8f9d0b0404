"""The Gradio page of the app. Needs the extra `app`."""

import logging
from typing import Any

import gradio as gr
from markupsafe import escape

from milpath.drawing.picture_frame import RESEARCH_USE_ONLY
from milpath.records.data_warning import warning_in_words
from milpath.targets import target_of
from milpath.viewer.result_page import render_answer, render_refusal, render_waiting, sentence
from milpath.viewer.session_history import Earlier, remember, render_history
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import UPLOAD_SUFFIXES
from milpath.viewer.upload_folder import Uploads

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "Consolas", "monospace")

# What several uploaded slides are, for a network of patients.
ONE_PATIENT, EACH_ITS_OWN = "These files are one patient", "Each file is a patient of its own"

CSS = """
.gradio-container { max-width: 960px !important; margin: 0 auto !important; }
header h1 { font-size: 1.6rem; margin: 0.4rem 0 0; }
.research { font-weight: 600; color: #8a4b00; }
#files .or { color: inherit; }
.dark .research { color: #e8b06a; }
.dark .answer td i { background: #8fb3d9; }
footer.research { border-top: 1px solid #c8ced4; padding-top: 0.6rem; font-size: 0.9rem; }
.answer { border-top: 1px solid #c8ced4; padding-top: 0.6rem; }
.answer h2 { font-size: 1.15rem; margin: 0 0 0.4rem; overflow-wrap: anywhere; }
.answer .call { font-size: 1.15rem; margin: 0; }
.answer .refer, .answer .keep { border-left: 4px solid #5c6b7a; padding: 0.4rem 0.8rem; margin: 0.8rem 0; }
.answer .refer { border-color: #b45f06; background: #fdf3e7; color: #1f2933; }
.answer table { border-collapse: collapse; margin: 0.6rem 0 1rem; width: 100%; max-width: 34rem; }
.answer caption { text-align: left; font-weight: 600; padding-bottom: 0.2rem; }
.answer table, .answer tr, .answer th, .answer td { border: 0 !important; }
.answer th, .answer td { text-align: left; font-weight: 400; padding: 0.2rem 0.8rem 0.2rem 0; overflow-wrap: anywhere; }
.answer td:last-child { width: 50%; padding-right: 0; }
.answer td i { display: block; height: 0.7rem; background: #31688e; min-width: 1px; }
.answer figure { margin: 1rem 0; }
.answer figure img { max-width: 100%; height: auto; border: 1px solid #c8ced4; background: white; }
.answer figcaption, .answer summary { font-size: 0.92rem; }
.answer .viewer { display: block; width: 100%; height: 56rem; border: 1px solid #c8ced4; margin: 1rem 0; }
@media (max-width: 600px) {
  .answer .viewer { height: 66rem; }
  .history tr > :first-child { display: none; }
}
.refused { border-left: 4px solid #b45f06; background: #fdf3e7; padding: 0.4rem 0.8rem; overflow-wrap: anywhere; }
.refused, .refused * { color: #1f2933; }
.refused h2, .history h2 { font-size: 1.15rem; margin: 0 0 0.4rem; }
.history .wide { overflow-x: auto; }
.history td, .history th { text-align: left; font-weight: 400; overflow-wrap: normal; padding: 0.3rem 0.5rem !important; }
.history tbody th { overflow-wrap: anywhere; min-width: 5rem; }
.history thead th { font-weight: 600; }
/* What is said while a slide is read must be readable. */
#result .pending { opacity: 1 !important; }
/* Gradio's own messages stand above the page instead of over it. */
.toast-wrap { position: static !important; order: -1; padding: 0 !important; }
.toast-wrap, .toast-wrap .toast-body { width: 100% !important; max-width: none !important; }
:focus-visible { outline: 3px solid #31688e !important; outline-offset: 2px; }
"""


# Errors that an uploaded file can cause; anything else is a bug and is logged with its traceback.
_FAULTS_OF_FILES = (ValueError, OSError)
_UNEXPECTED = "The app could not answer; whoever runs it finds the reason in its log. Upload the file again."
_log = logging.getLogger(__name__)


def sober_theme() -> gr.themes.Base:
    """Return a theme that loads nothing from other hosts."""
    return gr.themes.Base(
        primary_hue="slate", secondary_hue="slate", neutral_hue="slate", font=list(_SANS), font_mono=list(_MONO)
    )


def build_page(analyst: Analyst, uploads: Uploads, max_waiting: int) -> gr.Blocks:
    """Return the page.

    Slides are processed one at a time; others wait in a queue.

    Args:
        analyst: Predicts the slides.
        uploads: Folder of the uploaded files.
        max_waiting: Number of slides that may wait.
    """

    def announce(payload: Any) -> str:
        names = [entry.get("orig_name") for entry in payload or () if isinstance(entry, dict)]
        return render_waiting([name for name in names if isinstance(name, str)])

    def answer(payload: Any, history: list[Earlier], meaning: Any = ONE_PATIENT) -> tuple[str, list[Earlier], str]:
        parts: list[str] = []
        try:
            with uploads.take(payload) as (files, folder):
                for each in analyst.answers(files, folder, one_patient=meaning != EACH_ITS_OWN):
                    parts.append(render_answer(each))
                    history = remember(history, each)
        except _FAULTS_OF_FILES as error:
            line = uploads.one_line(error)
            _log.info("refused: %s", line)
            parts.insert(0, render_refusal(line))
        return "".join(parts), history, render_history(history)

    page: gr.Blocks
    with gr.Blocks(title=f"milpath · {RESEARCH_USE_ONLY.lower()}", analytics_enabled=False) as page:
        gr.HTML(_introduction(analyst))
        meaning: list[gr.components.Component] = []
        if analyst.of_patients:  # before the files, whose upload starts the prediction
            choices = [ONE_PATIENT, EACH_ITS_OWN]
            meaning.append(gr.Radio(choices, value=ONE_PATIENT, label="Several slides", elem_id="meaning"))
        files = gr.File(
            label="The slides of a patient, or their tiles"
            if analyst.of_patients
            else "Slides, or the tiles of one slide",
            file_count="multiple",
            file_types=list(UPLOAD_SUFFIXES),
            elem_id="files",
            height=180,
        )
        result = gr.HTML(elem_id="result", min_height=120)
        history = gr.State([])
        earlier = gr.HTML(elem_id="history")
        gr.HTML(f'<footer class="research">{RESEARCH_USE_ONLY}. Files are deleted once they are processed.</footer>')
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        # The previous result goes, so that it is never shown next to a new slide.
        asked = files.upload(announce, files, result, preprocess=False, queue=False, **quiet)
        # Preprocessing would leave an empty file in the upload folder.
        answered = asked.then(
            answer, [files, history, *meaning], [result, history, earlier], preprocess=False, api_visibility="private",
            show_progress="minimal", show_progress_on=result, concurrency_limit=1, trigger_mode="multiple",
        )  # fmt: skip
        # The files are deleted, so clear the field. `then` alone does not run after an error.
        answered.success(lambda: None, outputs=files, queue=False, **quiet)
        answered.failure(lambda: (None, render_refusal(_UNEXPECTED)), outputs=[files, result], queue=False, **quiet)
    # Gradio only checks that a file in a request was uploaded if this is set.
    page.has_launched = True
    page.queue(default_concurrency_limit=1, max_size=max_waiting)
    return page


def _introduction(analyst: Analyst) -> str:
    """Return the introduction of the page."""
    card = analyst.card
    names = ", ".join(str(escape(name)) for name in card.class_names)
    predicted = f"the probability of each class ({names})" if target_of(card).has_classes else names
    formats = "(TIFF, SVS, NDPI, PNG, JPEG and others)"
    size = int(card.tiling["tile_size"])
    if analyst.of_patients:
        slides = f"all slides of a patient {formats}, or " if analyst.options else ""
        what = f"{slides}the tiles of each slide as a zip of PNG files ({size} px each)"
        how = "The network was trained on patients, each a bag of all its slides. It"
    else:
        slides = f"slides {formats}, or " if analyst.options else ""
        what = f"{slides}the tiles of one slide as PNG files or a zip of them ({size} px each)"
        how = "The network"
    warning = (
        f"<p class='research' role='note'>{escape(sentence(warning_in_words(card.warning)))}</p>"
        if card.warning
        else ""
    )
    return (
        f"<header><h1>milpath</h1><p class='research'>{RESEARCH_USE_ONLY}</p>{warning}"
        f"<p>Upload {what}; at most {analyst.limits.max_upload_mb:,} MB. {how} predicts {predicted} and shows "
        "how much each tile contributed.</p></header>"
    )
