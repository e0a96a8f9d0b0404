"""What was answered earlier in a session: kept with the session and forgotten with it, without files and pictures."""

import time
from typing import NamedTuple

from markupsafe import Markup

from milpath.viewer.result_page import call_in_words
from milpath.viewer.shown_answer import Answer

LONGEST = 50


class Earlier(NamedTuple):
    """An answer of the session.

    Attributes:
        at: Time of the day, `HH:MM`.
        name: Name of the slide or patient, chosen by the sender: must be escaped wherever it is shown.
        call: The answer in words.
        deferred: Whether it was referred to a person.
    """

    at: str
    name: str
    call: str
    deferred: bool


def remember(history: list[Earlier], answer: Answer) -> list[Earlier]:
    """Return a history with one more answer, the newest first; the oldest of many are forgotten."""
    newest = Earlier(time.strftime("%H:%M"), answer.name, call_in_words(answer), answer.deferred)
    return [newest, *history][:LONGEST]


def render_history(history: list[Earlier]) -> str:
    """Return the history as a table; empty without answers."""
    if not history:
        return ""
    row = Markup('<tr><td>{}</td><th scope="row">{}</th><td>{}</td><td>{}</td></tr>')
    rows = Markup().join(
        row.format(each.at, each.name, each.call, "refer to a person" if each.deferred else "") for each in history
    )
    titles = ("Time", "Slide or patient", "Answer", "Advice")
    head = Markup().join(Markup('<th scope="col">{}</th>').format(title) for title in titles)
    page = Markup(
        '<section class="history" aria-label="Earlier in this session"><h2>Earlier in this session</h2>'
        "<p>Kept until this page is closed or reloaded; nobody else sees it.</p>"
        '<div class="wide" tabindex="0" role="group" aria-label="Answers of this session"><table><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div></section>"
    )
    return str(page.format(head, rows))
