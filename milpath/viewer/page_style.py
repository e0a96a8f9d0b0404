"""How the page looks: fonts of the reader's own machine, ink on paper, one colour."""

import gradio as gr

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "Consolas", "monospace")

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
.answer figcaption { font-size: 0.92rem; }
:focus-visible { outline: 3px solid #31688e !important; outline-offset: 2px; }
"""


def sober_theme() -> gr.themes.Base:
    """Return a theme that fetches nothing."""
    return gr.themes.Base(
        primary_hue="slate", secondary_hue="slate", neutral_hue="slate", font=list(_SANS), font_mono=list(_MONO)
    )
