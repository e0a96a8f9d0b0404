"""The report at night, on a phone, on paper, and by links to single cases."""

import re
from urllib.parse import quote

import numpy as np
import pytest

from milpath.reports.cases import case_anchor
from milpath.reports.compare.compare_page import compare_runs, write_comparison
from milpath.reports.compare.compared_runs import read_compared
from milpath.reports.page import write_report
from milpath.targets.target_file import read_target
from tests.browser import DESKTOP, PHONE, violations
from tests.compared_runs import write_number_run, write_several_run, write_times_run

NIGHT = {"color_scheme": "dark"}


@pytest.fixture(scope="module")
def report(binary_run):
    return write_report(
        binary_run.path, task="binary", bags=binary_run.bags, store=binary_run.store, defer_below=0.6, num_resamples=50
    )


@pytest.fixture(scope="module")
def graded(make_run):
    run = make_run(num_bags=40, num_classes=6, name="graded")
    return run, write_report(run.path, task="ordinal", bags=run.bags, store=run.store, num_pictures=1, num_resamples=20)


@pytest.fixture(scope="module")
def numeric(tmp_path_factory):
    """The report of several targets, and the comparison of two runs."""
    folder = tmp_path_factory.mktemp("numeric")
    pages = {}
    path = write_several_run(folder / "several")
    pages["several targets"] = write_report(path, task=read_target(path), num_resamples=20)
    paths = [write_times_run(folder / "a"), write_times_run(folder / "b", seed=3)]
    pages["comparison"] = write_comparison(compare_runs(read_compared(paths), 20), folder / "comparison")
    return pages


def ids(page):
    return page.locator("#case-table tbody th button").all_text_contents()


def test_at_night_page_and_figures_are_dark_and_readable(open_page, report, axe):
    page = open_page(report, DESKTOP, **NIGHT)
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        assert violations(page, axe) == []
    page.locator("#case-table tbody button").first.click()
    assert violations(page, axe) == []
    page.keyboard.press("Escape")
    ground = page.evaluate("document.querySelector('#plot-roc svg').style.background")
    assert ground == "rgb(25, 34, 44)"
    inks = page.evaluate("[...document.querySelectorAll('#plot-roc text')].map(text => text.style.fill)")
    assert len(inks) > 10
    for ink in inks:
        assert contrast(ink, ground) >= 4.5, ink
    lines = page.evaluate("[...document.querySelectorAll('#plot-roc .js-line')].map(line => line.style.stroke)")
    assert [contrast(line, ground) >= 3 for line in lines] == [True] * len(lines)
    page.emulate_media(color_scheme="light")
    page.wait_for_function("() => document.querySelector('#plot-roc svg').style.background === 'white'")


def contrast(first, second):
    """The contrast of two colours by WCAG 2."""
    levels = []
    for colour in (first, second):
        parts = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        levels.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(levels) / min(levels)


@pytest.mark.parametrize("name", ["several targets", "comparison"])
def test_a_phone_shows_every_column_of_every_table_and_each_case_has_an_address(open_page, axe, numeric, name):
    page = open_page(numeric[name], PHONE, "" if name == "comparison" else "#" + case_anchor("bag_41"))
    if name != "comparison":
        assert "bag_41" in page.inner_text("tr:target th")
        assert 0 <= page.locator("tr:target").bounding_box()["y"] < PHONE["height"]
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    cells = page.evaluate(CELLS)
    assert len(cells) > 20
    assert [cell for cell in cells if cell["right"] > PHONE["width"] or cell["hidden"] or not cell["title"]] == []
    assert violations(page, axe) == []
    # On a wide screen it is a table.
    page.set_viewport_size(DESKTOP)
    page.wait_for_function("() => !document.querySelector('#results .stacked, #runs .stacked')")
    assert page.evaluate("document.documentElement.scrollWidth") <= DESKTOP["width"]


CELLS = """[...document.querySelectorAll('.scroll tbody td, .rows tbody td')].map(cell => ({
  right: cell.getBoundingClientRect().right,
  hidden: cell.textContent !== '' && cell.getBoundingClientRect().width === 0,
  title: cell.closest('.stacked') ? getComputedStyle(cell, '::before').content.length > 2 || cell.textContent === '' : true,
}))"""


def test_a_link_opens_its_case_even_where_a_filter_hides_it(open_page, report, binary_run):
    hostile = "s/l:i?d#e%20'\""
    page = open_page(report, PHONE, "#" + case_anchor(hostile))
    assert page.inner_text("#case-title") == hostile
    assert page.locator("#case-link").get_attribute("href") == "#" + case_anchor(hostile)
    page.keyboard.press("ArrowLeft" if page.locator("#case-on").is_disabled() else "ArrowRight")
    neighbour = page.inner_text("#case-title")
    assert neighbour != hostile
    assert page.evaluate("location.hash") == "#" + case_anchor(neighbour)
    page.keyboard.press("Escape")
    page.wait_for_function("() => location.hash === ''")
    splits = dict(zip(binary_run.predictions.bag_ids, binary_run.predictions.splits, strict=True))
    page.select_option("#filter-split", label="test")
    hidden = next(name for name, split in splits.items() if split == "train")
    page.evaluate("address => { location.hash = address }", case_anchor(hidden))
    page.wait_for_function("() => document.querySelector('#case').open")
    assert page.inner_text("#case-title") == hidden
    page.keyboard.press("Escape")
    page.evaluate("address => { location.hash = address }", "case-" + quote("no such <b>case</b>"))
    page.wait_for_function("() => document.querySelector('#case-count').textContent.startsWith('This')")
    assert not page.locator("#case").is_visible()
    assert page.inner_text("#case-count") == "This page has no case no such <b>case</b>."
    # A phone shows all that a wide screen shows of a case.
    titles = page.evaluate(
        "[...document.querySelector('#case-table tbody tr').children].map(cell => cell.dataset.title)"
    )
    assert titles == ["Case", "Split", "True", "Predicted", "P(malignant)", "Error"]
    page.click("th[data-key=score] button")
    assert page.locator("th[data-key=score]").get_attribute("aria-sort") == "descending"


def test_an_address_that_comes_while_a_case_closes_is_kept(open_page, report, binary_run):
    first, second = list(binary_run.predictions.bag_ids)[:2]
    page = open_page(report, DESKTOP, "#" + case_anchor(first))
    page.evaluate(
        "address => { document.querySelector('#case').close(); location.hash = address }", case_anchor(second)
    )
    page.wait_for_function("title => document.querySelector('#case-title').textContent === title", arg=second)
    assert page.locator("#case").is_visible()
    page.evaluate("() => { document.querySelector('#case').close(); location.hash = 'case-none' }")
    page.wait_for_function("() => document.querySelector('#case-count').textContent.startsWith('This')")


def test_the_search_finds_what_is_shown(open_page, graded):
    run, path = graded
    page = open_page(path, DESKTOP)
    page.select_option("#filter-split", label="all")
    predicted = np.array(page.evaluate("JSON.parse(document.getElementById('case-data').textContent).predicted"))
    for words, expected in (
        ("isup 3", (run.predictions.labels == 3) | (predicted == 3)),
        ("predicted  ISUP 3", predicted == 3),
        ("true isup 5", run.predictions.labels == 5),
        ("wrong isup 3", (predicted != run.predictions.labels) & ((run.predictions.labels == 3) | (predicted == 3))),
        ("radboud", np.array(run.bags["data_provider"] == "radboud")),
    ):
        page.fill("#filter-text", words)
        assert page.inner_text("#case-count").startswith(f"{int(expected.sum())} of 40 cases"), words
    page.fill("#filter-text", "isup 7")
    assert ids(page) == []
    page.fill("#filter-text", "")
    name = ids(page)[0]
    weights = run.predictions.attention[list(run.predictions.bag_ids).index(name)]
    order = np.argsort(-weights, kind="stable")[:5]
    page.locator("#case-table tbody button").first.click()
    numbers = ", ".join(f"#{tile} {round(float(weights[tile]), 4):.3f}" for tile in order)
    assert numbers in page.inner_text("#case-body")


def test_the_search_finds_a_grade_that_is_a_column_by_its_first_word(open_page, make_run):
    run = make_run(num_bags=12, name="grades_in_a_column")
    bags = run.bags.assign(isup_grade=[str(row % 4) for row in range(12)])
    page = open_page(write_report(run.path, task="binary", bags=bags, num_pictures=0, num_resamples=5), DESKTOP)
    page.select_option("#filter-split", label="all")
    for words in ("isup 3", "isup grade 3"):
        page.fill("#filter-text", words)
        assert page.inner_text("#case-count").startswith("3 of 12 cases"), words


def listed(page):
    return page.locator("#case-table tbody tr:visible th").all_text_contents()


def test_the_search_of_a_report_of_several_targets_finds_what_its_rows_show(open_page, numeric):
    page = open_page(numeric["several targets"], PHONE)
    assert page.inner_text("#case-count") == "60 of 60 cases."
    # Cases 2, 5, 8, ... are high; of every fifth case the grade is not known.
    high = {f"bag_{number}" for number in range(2, 60, 3) if number % 5}
    page.fill("#filter-text", "grade  TRUE high")
    assert set(listed(page)) == high
    assert page.inner_text("#case-count") == f"{len(high)} of 60 cases."
    page.fill("#filter-text", "grade predicted high")
    predicted = set(listed(page))
    page.fill("#filter-text", "grade high")
    assert set(listed(page)) == high | predicted
    page.fill("#filter-text", "bag_41")
    assert listed(page) == ["bag_41"]
    # A link shows its case even where the search hides it.
    page.evaluate("address => { location.hash = address }", case_anchor("bag_7"))
    page.wait_for_function("() => document.querySelector('#filter-text').value === ''")
    assert len(listed(page)) == 60
    page.wait_for_function(
        """() => {
      const place = document.querySelector('tr:target').getBoundingClientRect();
      return place.top >= 0 && place.bottom <= window.innerHeight;
    }""",
        polling=100,
    )


def test_a_report_of_numbers_says_how_many_of_its_cases_are_listed_and_where_the_rest_is(open_page, tmp_path):
    path = write_number_run(tmp_path / "ages", num_bags=210)
    page = open_page(write_report(path, task=read_target(path), num_pictures=0, num_resamples=5), DESKTOP)
    assert "200 of 210 cases; predictions.csv next to this page has all" in page.inner_text("#caption-cases")
    assert page.inner_text("#case-count") == "200 of 200 listed cases."
    names = listed(page)
    page.fill("#filter-text", f"test {names[3]}")
    assert [name for name in names if name.startswith(names[3])] == listed(page)
    missing = next(name for name in (f"bag_{number}" for number in range(210)) if name not in names)
    page.evaluate("address => { location.hash = address }", case_anchor(missing))
    page.wait_for_function("() => document.querySelector('#case-count').textContent.startsWith('This')")
    said = f"This page has no case {missing} in its list; predictions.csv next to it has all 210 cases."
    assert page.inner_text("#case-count") == said


def test_a_number_beside_its_interval_is_not_broken_on_a_phone(open_page, report):
    page = open_page(report, PHONE)
    page.evaluate("""document.querySelectorAll('#results td.numeric').forEach(cell => {
      cell.dataset.title = 'more unfamiliar than validation, a long title';
    })""")
    lines = page.evaluate("""[...document.querySelectorAll('#results td.numeric')].map(cell => {
      const range = document.createRange();
      range.selectNodeContents(cell.firstChild);
      return range.getClientRects().length;
    })""")
    assert set(lines) == {1}
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_figure_is_saved_as_svg_or_printed_alone_and_paper_is_light_without_controls(open_page, report):
    page = open_page(report, {"width": 390, "height": 800}, **NIGHT)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save ROC curve as SVG").click()
    assert saved.value.suggested_filename == "run_roc.svg"
    text = saved.value.path().read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert "1 - specificity" in text
    assert "rgb(255, 255, 255)" in text
    assert "rgb(0, 114, 178)" in text

    page.emulate_media(media="print", color_scheme="light")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    for control in ("nav", "#case-filters", ".pager", ".save"):
        assert not page.locator(control).first.is_visible()
    widths = page.evaluate(
        "[...document.querySelectorAll('.canvas svg.main-svg:first-child')].map(svg => svg.width.baseVal.value)"
    )
    assert set(widths) == {540}
    assert page.evaluate("document.querySelector('#plot-roc svg').style.background") == "white"
    assert page.locator("#case-table thead").is_visible()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")

    page.emulate_media(media="screen")
    page.evaluate("window.print = () => { window.printed = document.title }")
    page.get_by_role("button", name="Print ROC curve, or save it as PDF").click()
    assert page.evaluate("window.printed") == "run_roc"
    page.emulate_media(media="print")
    assert page.locator("#plot-roc").is_visible()
    for other in ("#plot-calibration", "#results", "header", "#cases"):
        assert not page.locator(other).is_visible()
    assert len(re.findall(rb"/Type /Page\b(?!s)", page.pdf())) == 1
