"""The documentation site: it builds without a warning and is read in a real browser, on a desk and on a telephone."""

import http.server
import os
import subprocess
import sys
import threading
from functools import partial

import pytest

from tests.browser import PHONE, chromium
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow
DESK = {"width": 1400, "height": 900}
PAGES = ("index.html", "quick-start.html", "how-to/python.html", "reference/commands/train.html", "reference/api.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> str:
    """Build the site as `make docs` does, and serve it; returns its address."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "NO_MKDOCS_2_WARNING": "1"}
    build = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    result = subprocess.run(build, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_pages_fit_the_screen_and_ask_no_other_host(site, browser, viewport):
    page = browser.new_context(viewport=viewport).new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    for name in PAGES:
        page.goto(f"{site}/{name}")
        assert page.locator("h1").count() == 1, name
        width = page.evaluate("document.scrollingElement.scrollWidth")
        assert width <= viewport["width"], f"{name} is {width} px wide"
    assert [url for url in asked if not url.startswith((site, "data:"))] == []
    assert said == []
    page.context.close()


def test_the_search_finds_a_concept_and_an_option(site, browser):
    page = browser.new_context(viewport=DESK).new_page()
    for query, found in (
        ("deferral", "concepts/calibration.html"),
        ("stain_jitter", "reference/configuration/data.html"),
    ):
        page.goto(f"{site}/index.html?q={query}")
        page.wait_for_selector(f'.md-search-result__link[href*="{found}"]', timeout=90_000, state="attached")
    page.context.close()


def test_an_example_is_shown_as_code(site, browser):
    page = browser.new_context(viewport=DESK).new_page()
    page.goto(f"{site}/reference/api.html")
    shown = page.locator(".highlight code").all_text_contents()
    assert any(">>> network = AttentionMIL(" in text for text in shown)
    page.context.close()
