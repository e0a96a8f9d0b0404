"""The page of a slide in a browser, opened from the disk: what it shows, the keyboard, and nothing from elsewhere."""

import io

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from milpath.config.roots import PredictConfig
from milpath.models import AttentionMIL, save_network
from milpath.predict import run
from tests.browser import DESKTOP, PHONE, axe_source, chromium, violations
from tests.pyramids import tissue, write_pyramid

pytestmark = pytest.mark.command


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewer")
    (folder / "slides").mkdir()
    write_pyramid(folder / "slides/slide 7%.tiff", tissue(180, 120, seed=3), factors=(1, 2))
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8})
    tiling = {"method": "tissue", "tile_size": 32, "num_tiles": None, "level": 0, "microns_per_pixel": None}
    save_network(network, folder / "network.pt", class_names=("benign", "malignant"), tiling=tiling)
    words = {"checkpoint": str(folder / "network.pt"), "slides": str(folder / "slides"), "output": str(folder / "out")}
    words |= {"device": "cpu", "num_workers": 1, "pictures": False, "formats": ["viewer"], "dense": 0.5}
    assert run(OmegaConf.merge(OmegaConf.structured(PredictConfig), words)) == 0
    (path,) = (folder / "out/viewer/slides").glob("*.html")
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser, page_path):
    said, fetched, contexts = [], [], []

    def open_(viewport, scheme="light"):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto((page_path.parent.parent / "index.html").as_uri())
        page.click("tbody a")
        page.wait_for_selector("body[data-layer]")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
    root = page_path.parent.parent.as_uri()
    assert [url for url in fetched if not url.startswith((f"{root}/", "data:"))] == []
    assert any("_files/" in url for url in fetched), "the tiles of the pyramid"


def _canvas(page):
    """What is drawn once nothing changes any more."""
    before = None
    for _ in range(100):
        page.wait_for_timeout(400)
        picture = page.locator("#slide").screenshot()
        if picture == before:
            return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
        before = picture
    raise AssertionError("it goes on drawing")


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_attention_fades_over_the_slide_and_axe_finds_nothing(open_page, viewport, scheme):
    page = open_page(viewport, scheme)
    assert violations(page, axe_source()) == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    pictures = {}
    for value in (0, 50, 100):
        page.locator("#opacity").fill(str(value))
        pictures[value] = _canvas(page)
    assert page.inner_text("#shown") == "100 %"
    changed = np.abs(pictures[100] - pictures[0]).max(axis=2) > 20
    assert 0.02 < changed.mean() < 0.9, "the tiles, and no more than them"
    middle = (pictures[0] + pictures[100]) / 2
    assert np.abs(pictures[50] - middle)[changed].mean() < 6, "half faded lies half way"
    # Attention lies on tissue: what it changes is coloured without it, up to the corners of the tiles.
    saturation = pictures[0].max(axis=2) - pictures[0].min(axis=2)
    assert saturation[changed].mean() > 4 * saturation[~changed].mean()
    page.click("#toggle")
    assert np.abs(_canvas(page) - pictures[0]).mean() < 1
    assert page.get_attribute("#toggle", "aria-pressed") == "false"


def test_a_phone_cuts_no_long_title_of_a_layer_and_breaks_no_number(open_page):
    page = open_page(PHONE)
    page.evaluate(
        "document.querySelector('#layer').add(new Option('How unfamiliar each tile is, in percent. '.repeat(4)))"
    )
    page.evaluate(
        "document.querySelectorAll('section tbody th').forEach(cell => { cell.textContent = 'percent of validation bags '.repeat(4) })"
    )
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    lines = page.evaluate("""[...document.querySelectorAll('section tbody td')].map(cell => {
      const range = document.createRange();
      range.selectNodeContents(cell);
      return range.getClientRects().length;
    })""")
    assert len(lines) > 2
    assert set(lines) == {1}


def test_paper_is_light_and_without_controls(open_page):
    page = open_page(DESKTOP, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#opacity").is_visible()
    assert page.locator("#slide").is_visible()


def test_every_layer_is_shown_with_its_scale_and_a_tile_is_found(open_page):
    page = open_page(DESKTOP)
    first = _canvas(page)
    page.select_option("#layer", index=1)
    page.wait_for_function("document.body.dataset.layer.startsWith('Attention on all tissue')")
    assert np.abs(_canvas(page) - first).mean() > 0.1
    assert float(page.inner_text("#high")) > float(page.inner_text("#low")) == 0
    page.locator(".tiles button").nth(1).click()
    page.wait_for_selector(".here")
    _canvas(page)
    here, slide = page.locator(".here").bounding_box(), page.locator("#slide").bounding_box()
    for start, side in (("x", "width"), ("y", "height")):
        assert slide[start] <= here[start] < here[start] + here[side] <= slide[start] + slide[side]
    assert here["width"] == pytest.approx(here["height"], abs=1)
    page.click("#whole")
    page.wait_for_selector(".here", state="detached")


def test_the_keyboard_does_everything(open_page):
    page = open_page(DESKTOP)
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        element = page.evaluate(
            "[document.activeElement.id || document.activeElement.className, getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(element[0])
        if element[0] == "opacity":
            before = _canvas(page)
            for _ in range(20):
                page.keyboard.press("ArrowRight")
            assert page.inner_text("#shown") == "100 %"
            assert np.abs(_canvas(page) - before).mean() > 0.1
        if "openseadragon-canvas" in element[0]:
            assert element[1] == "solid", "the focus is seen"
            before = _canvas(page)
            page.keyboard.press("+")
            page.keyboard.press("ArrowDown")
            assert np.abs(_canvas(page) - before).mean() > 1
            page.keyboard.press("0")
            assert np.abs(_canvas(page) - before).mean() < 1
            break
    assert reached[1:7] == ["layer", "opacity", "toggle", "in", "out", "whole"]
    assert "openseadragon-canvas" in reached[-1]
