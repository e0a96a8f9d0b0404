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


@pytest.fixture(scope="module")
def kept_pages():
    """Pages that tests open one after the other: the first of a process reads plotly in 3 s, the others in less than 1 s."""
    return {}


@pytest.fixture
def open_page(browser, kept_pages):
    """Open a page; at the end it must have said nothing and fetched nothing but itself and its pictures."""
    said, fetched, opened = [], [], []
    listeners = {
        "console": lambda message: said.append(message.text),
        "pageerror": lambda error: said.append(str(error)),
        "request": lambda request: fetched.append(request.url),
    }

    def open_(path, viewport, fragment="", **options):
        key = (*viewport.items(), *options.items())
        if key not in kept_pages:
            kept_pages[key] = browser.new_context(viewport=viewport, offline=True, **options).new_page()
        page = kept_pages[key]
        assert page not in opened, "a test opens one page of a size"
        page.set_viewport_size(viewport)
        page.emulate_media(media="null", color_scheme=options.get("color_scheme", "null"))
        page.goto("about:blank")
        opened.append(page)
        for name, listener in listeners.items():
            page.on(name, listener)
        page.goto(path.as_uri() + fragment)
        page.wait_for_selector("html[data-plots=drawn]", timeout=60_000)
        folders.append(path.parent.as_uri())
        return page

    folders = []
    yield open_
    for page in opened:
        for name, listener in listeners.items():
            page.remove_listener(name, listener)
    assert said == []
    assert [url for url in fetched if not url.startswith((*folders, "data:", "blob:"))] == []
