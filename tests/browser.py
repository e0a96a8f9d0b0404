"""A real browser for tests. Needs Chromium; axe-core comes with axe-playwright-python."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def chromium() -> Iterator:
    """Start the Chromium of the machine."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium: install it (Debian: apt-get install chromium)")
        pytest.skip("left out: no Chromium or Chrome on this machine; install one (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


def axe_source() -> str:
    """Return the text of axe-core."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None, "axe-playwright-python, which carries axe-core, is not installed; run make setup"
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(page, axe: str) -> list[tuple[str, list[str]]]:
    """Return what axe-core finds against a page."""
    page.evaluate(axe)
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [(found["id"], [node["html"][:160] for node in found["nodes"]]) for found in result["violations"]]
