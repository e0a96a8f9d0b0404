"""The report in a real browser."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from milpath.reports.method_tables.method_table import compare_methods
from milpath.reports.method_tables.run_design import FoldResult
from milpath.reports.method_tables.table_page import write_table_report
from milpath.reports.page import write_report
from tests.browser import DESKTOP, PHONE, violations


@pytest.fixture(scope="module")
def report(binary_run):
    return write_report(
        binary_run.path, task="binary", bags=binary_run.bags, store=binary_run.store, defer_below=0.6, num_resamples=100
    )


def _ids(page):
    return page.locator("#case-table tbody th button").all_text_contents()


def test_every_plot_is_drawn_and_on_paper_stands_without_controls(open_page, report):
    page = open_page(report, DESKTOP)
    canvases = page.locator(".canvas")
    assert canvases.count() == 8
    for number in range(canvases.count()):
        assert canvases.nth(number).locator("svg.main-svg").count() > 0
        assert canvases.nth(number).get_attribute("aria-label")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator("#case-filters").is_visible()
    assert page.locator("#plot-roc").is_visible()


def test_the_table_of_cases_sorts_and_filters(open_page, report, binary_run):
    page = open_page(report, DESKTOP)
    test_ids = [
        i for i, s in zip(binary_run.predictions.bag_ids, binary_run.predictions.splits, strict=True) if s == "test"
    ]
    assert sorted(_ids(page)) == sorted(test_ids)
    errors = [float(text) for text in page.locator("#case-table tbody td:last-child").all_text_contents()]
    assert errors == sorted(errors, reverse=True)
    assert page.locator("th[data-key=wrongness]").get_attribute("aria-sort") == "descending"
    page.click("th[data-key=id] button")
    assert _ids(page) == sorted(test_ids)
    page.click("th[data-key=id] button")
    assert _ids(page) == sorted(test_ids, reverse=True)
    page.select_option("#filter-split", label="all")
    assert page.locator("#case-table tbody tr").count() == 25
    assert "60 of 60 cases" in page.inner_text("#case-count")
    page.click("#page-on")
    assert page.inner_text("#page-number") == "page 2 of 3"
    page.select_option("#filter-label", label="malignant")
    assert "30 of 60 cases" in page.inner_text("#case-count")
    page.select_option("#filter-outcome", "wrong")
    marks = set(page.locator("#case-table tbody .mark").all_text_contents())
    # A deferred case that is wrong says both.
    assert marks <= {"✕ wrong", "✕ wrong → deferred"}
    page.select_option("#filter-outcome", "refer")
    marks = set(page.locator("#case-table tbody .mark").all_text_contents())
    assert marks <= {"✓ correct → deferred", "✕ wrong → deferred"}
    page.select_option("#filter-label", label="all")
    page.select_option("#filter-outcome", label="all")
    page.fill("#filter-text", "<SCRIPT>")
    assert _ids(page) == ['<script>alert("id")</script>']
    page.fill("#filter-text", "no such case")
    assert _ids(page) == []
    assert "0 of 60 cases" in page.inner_text("#case-count")


def test_a_row_opens_its_montage_and_its_overlay_and_fetches_them_only_then(open_page, report, binary_run):
    page = open_page(report, DESKTOP)
    assert page.locator("img[src*=report_files]").count() == 0
    page.select_option("#filter-split", label="all")
    for name in ('<script>alert("id")</script>', "../../etc/passwd"):
        page.fill("#filter-text", name)
        page.click("#case-table tbody tr:first-child td:last-child")
        assert page.inner_text("#case-title") == name
        images = page.locator("#case-body img")
        assert images.count() == 2
        for number in range(2):
            image = images.nth(number)
            image.scroll_into_view_if_needed()
            page.wait_for_function("image => image.complete && image.naturalWidth > 200", arg=image.element_handle())
            assert Path(binary_run.path / "report_files").as_uri() in image.evaluate("image => image.src")
        page.click("#case-close")
        assert not page.locator("#case").is_visible()


def test_a_case_of_a_network_with_maps_per_class_shows_each_with_its_class(open_page, make_run):
    run = make_run(num_bags=20, name="maps")
    maps = {f"attention_{name}": run.predictions.attention for name in run.predictions.class_names}
    replace(run.predictions, maps=maps).write_csv(run.path / "predictions.csv")
    page = open_page(write_report(run.path, task="binary", store=run.store, num_resamples=10), DESKTOP)
    page.click("#case-table tbody tr:first-child td:last-child")
    words = page.locator("#case-body figcaption").all_text_contents()
    assert len(words) == 4
    assert words[1].startswith("Attention for benign, on one scale for all classes.")
    assert words[2].startswith("Attention for malignant, on one scale for all classes.")
    for image in page.locator("#case-body img").all():
        image.scroll_into_view_if_needed()
        page.wait_for_function("image => image.complete && image.naturalWidth > 100", arg=image.element_handle())


def test_the_keyboard_reaches_and_does_everything(open_page, report):
    page = open_page(report, DESKTOP)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.focus("th[data-key=wrongness] button")
    page.keyboard.press("Enter")
    assert page.locator("th[data-key=wrongness]").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.textContent")
    assert first == _ids(page)[0]
    page.keyboard.press("Enter")
    assert page.inner_text("#case-title") == first
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#case-title") == _ids(page)[1]
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#case-title") == first
    page.keyboard.press("Escape")
    assert not page.locator("#case").is_visible()
    assert page.evaluate("document.activeElement.textContent") == first


def test_numbers_side_by_side_stand_on_one_line(open_page, report):
    page = open_page(report, DESKTOP)
    bottoms = "names => [...document.querySelectorAll(names)].map(value => value.getBoundingClientRect().bottom)"
    for section in ("results", "attention"):
        lines = page.evaluate(bottoms, f"#{section} .headline .value")
        assert len(lines) == {"results": 4, "attention": 2}[section]
        assert max(lines) - min(lines) < 1


def test_a_phone_shows_the_page_without_scrolling_sideways(open_page, report):
    page = open_page(report, PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = "[...document.querySelectorAll('main, section, figure, form, #case-table, .canvas svg')]"
    assert page.evaluate(f"{wide}.every(part => part.getBoundingClientRect().right <= 390.5)")
    page.fill("#filter-text", "slide_0")
    page.locator("#case-table tbody button").first.click()
    box = page.locator("#case").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert page.evaluate("document.querySelector('#case').scrollWidth <= document.querySelector('#case').clientWidth")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_that_shuts_readers_out(open_page, report, axe, viewport):
    page = open_page(report, viewport)
    page.locator("details summary").click()
    assert violations(page, axe) == []
    page.locator("#case-table tbody button").first.click()
    assert violations(page, axe) == []
    # The check itself can fail: a picture without words is found.
    page.evaluate("document.querySelector('#case-body').append(new Image())")
    assert [name for name, _ in violations(page, axe)] == ["image-alt"]


def test_pictures_left_behind_are_missed_in_words(open_page, browser, report, tmp_path):
    alone = tmp_path / "report.html"
    shutil.copy(report, alone)
    page = browser.new_page()
    page.goto(alone.as_uri())
    page.locator("#case-table tbody button").first.click()
    page.wait_for_selector("#case-body p.note")
    assert "report_files, which is not next to this page" in page.inner_text("#case-body")
    page.close()


def test_the_page_of_a_table_is_sound_too(open_page, axe, draw_outcomes, tmp_path):
    results = [
        FoldResult(method, 0, fold, [f"{fold}_{n}" for n in range(60)], draw_outcomes(60, 2, "binary", seed), 240)
        for method in ("attention", "<b>other</b>")
        for fold, seed in enumerate(range(4))
    ]
    results.append(FoldResult("attention", 1, 0, failure="ValueError: </script><script>alert(1)</script>"))
    table = compare_methods(results, "auroc", title="MUSK1 </title>", published={"attention": 0.892}, num_resamples=100)
    for viewport in (DESKTOP, PHONE):
        page = open_page(write_table_report(table, tmp_path, {"python": "3.11"}), viewport)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        assert violations(page, axe) == []
    assert "ValueError: </script><script>alert(1)</script>" in page.inner_text("#table")
    assert page.inner_text("tbody tr:nth-child(2) th") == "<b>other</b>"
    assert page.locator("#plot-methods svg.main-svg").count() > 0
