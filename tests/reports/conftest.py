"""A browser for the tests of reports."""

import pytest

from tests.browser import axe_source, chromium


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def axe():
    return axe_source()


@pytest.fixture
def open_page(browser):
    """Open a page; at the end it must have said nothing and fetched nothing but itself and its pictures."""
    said, fetched, pages = [], [], []

    def open_(path, viewport, fragment="", **options):
        context = browser.new_context(viewport=viewport, offline=True, **options)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(path.as_uri() + fragment)
        page.wait_for_selector("html[data-plots=drawn]", timeout=60_000)
        pages.append((path, context))
        return page

    yield open_
    folders = tuple(path.parent.as_uri() for path, _ in pages)
    for _, context in pages:
        context.close()
    assert said == []
    assert [url for url in fetched if not url.startswith((*folders, "data:", "blob:"))] == []
