"""The app as people meet it: a process of its own, asked over HTTP and by a real browser."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from milpath.drawing.picture_frame import RESEARCH_USE_ONLY
from milpath.records.folder_lock import LOCK_FILE
from tests.browser import DESKTOP, PHONE, axe_source, chromium, violations
from tests.conftest import REPOSITORY
from tests.pyramids import tissue, write_pyramid
from tests.slow_clients import HALF_HEADERS, SILENT, SlowClients, ask
from tests.viewer.conftest import png, write_zip

EVIL = "<img src=x onerror=alert(1)>${alert(2)}{{3}} & co"
FILE = {"meta": {"_type": "gradio.FileData"}}
# Runs before anything else in the server's process and writes down whoever it wants to talk to.
WATCH = """
import os, socket
_connect, _look_up = socket.socket.connect, socket.getaddrinfo
def note(host):
    if str(host) not in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "None"):
        with open(os.environ["OUTSIDE"], "a") as file:
            file.write(f"{host}\\n")
def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        note(address[0])
    return _connect(self, address)
def look_up(host, *words, **more):
    note(host)
    return _look_up(host, *words, **more)
socket.socket.connect, socket.getaddrinfo = connect, look_up
"""


class App:
    """A running app.

    Attributes:
        address: Of its page.
        folder: Where it may write.
        outside: File with every other host that it wanted to reach.

    Args:
        checkpoint: Of the network.
        folder: For everything that is written.
        before: Words before the command line, of a program that runs it.
        variables: Of the environment.
    """

    def __init__(
        self, checkpoint: Path, folder: Path, before: Sequence[str] = (), variables: Mapping[str, str] = os.environ
    ) -> None:
        self.folder, self.outside = folder / "temporary", folder / "outside.txt"
        (folder / "watch").mkdir()
        self.folder.mkdir()
        self.cwd = folder / "cwd"
        self.cwd.mkdir()
        (folder / "watch" / "sitecustomize.py").write_text(WATCH)
        environment = {
            **variables, "PYTHONPATH": f"{folder / 'watch'}{os.pathsep}{REPOSITORY}", "OUTSIDE": str(self.outside), "OMP_NUM_THREADS": "1",
            "HOME": str(self.cwd), "TMPDIR": str(self.folder), "MPLCONFIGDIR": str(folder),
        }  # fmt: skip
        words = [f"checkpoint={checkpoint}", "port=0", "max_upload_mb=3", "max_tiles=40", "device=cpu"]
        self._errors = (folder / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "milpath.app", *words], cwd=self.cwd, env=environment, stderr=self._errors
        )
        self.address = self._wait()
        self.port = int(self.address.rpartition(":")[2])

    def _wait(self) -> str:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"milpath app at (http://127\.0\.0\.1:\d+)", self.said())
            if found:
                try:
                    socket.create_connection(("127.0.0.1", int(found[1].rpartition(":")[2]))).close()
                    return found[1]
                except OSError:
                    pass
            time.sleep(0.1)
        raise AssertionError(self.said())

    def said(self) -> str:
        return Path(self._errors.name).read_text()

    def files(self) -> list[str]:
        """Return every file the app has written anywhere it may write, but for the lock of its own folder."""
        found = (path for root in (self.folder, self.cwd) for path in root.rglob("*"))
        return [str(path) for path in found if path.is_file() and path.name != LOCK_FILE]

    def wait_for_files(self, count: int) -> list[str]:
        """Return the files as soon as there are so many: the server clears up after it has answered."""
        deadline = time.monotonic() + 90
        while len(self.files()) != count and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.files()

    def post(self, path: str, body: bytes, kind: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("POST", path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        content = answer.status, answer.read().decode("utf-8", "replace")
        connection.close()
        return content

    def join(self, payload: object, session: str) -> tuple[int, str]:
        """Ask as the page asks."""
        config = json.loads(self.get("/config"))
        number = next(row["id"] for row in config["dependencies"] if len(row["inputs"]) == 2)
        body = {
            "data": [payload, None],
            "fn_index": number,
            "session_hash": session,
            "event_data": None,
            "trigger_id": None,
        }
        return self.post("/gradio_api/queue/join", json.dumps(body).encode(), "application/json")

    def ask(self, payload: object) -> str:
        """Ask, and return the last message of the server."""
        status, text = self.join(payload, session := "alone")
        if status != 200:
            return text
        for line in self.get(f"/gradio_api/queue/data?session_hash={session}").splitlines():
            if '"process_completed"' in line:
                return line
        raise AssertionError("no answer came")

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(120)
        self._errors.close()
        return status


@pytest.fixture(scope="module")
def app(checkpoint, tmp_path_factory):
    app = App(checkpoint, tmp_path_factory.mktemp("app"))
    yield app
    if app.process.poll() is None:
        app.stop()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def _note(said, message, expected):
    """Keep an error of the console that the test does not bring about itself."""
    if message.type == "error" and not (expected and expected in message.text):
        said.append(message.text)


@pytest.fixture
def open_page(browser, app):
    """Open the page; at the end it must have shown no error of its own and fetched from its own host alone."""
    said, fetched, contexts = [], [], []

    def open_(viewport, expected=None):
        context = browser.new_context(viewport=viewport, color_scheme="dark" if viewport == PHONE else "light")
        page = context.new_page()
        page.on("console", lambda message: _note(said, message, expected))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}") or dialog.dismiss())
        page.on("request", lambda request: fetched.append(request.url))
        page.set_default_timeout(60_000)
        page.goto(app.address)
        page.wait_for_selector("#files")
        contexts.append(context)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in fetched if not url.startswith((f"{app.address}/", "data:", "blob:"))] == []
    assert len(fetched) > 10


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return write_pyramid(tmp_path_factory.mktemp("slides") / "slide 7.tiff", tissue(80, 60, seed=3), factors=(2, 1))


def _ask(page, *files):
    # The page takes the files of an answer away; Gradio stumbles over one that comes in the same instant.
    page.wait_for_selector("#files .file-preview", state="detached")
    page.set_input_files("#files input[type=file]", [str(path) for path in files])


def _overflow(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_slide_is_answered_and_nothing_of_it_stays_and_axe_finds_nothing(open_page, app, slide, viewport):
    axe = axe_source()
    page = open_page(viewport)
    assert page.inner_text("body").count(RESEARCH_USE_ONLY) == 2
    assert RESEARCH_USE_ONLY.lower() in page.title().lower()
    assert violations(page, axe) == []
    _ask(page, slide)
    page.wait_for_selector(".answer", timeout=120_000)
    text = page.inner_text("body")
    assert re.search(r"Predicted (benign|malignant)", text)
    assert re.search(r"The probability of malignant, 0\.\d{3,}, (reaches|is below) the threshold of 0\.300", text)
    assert "Defer to a pathologist" in text
    assert text.count(RESEARCH_USE_ONLY) >= 2
    images = page.locator(".answer img")
    assert images.count() == 3
    for number in range(3):
        assert images.nth(number).get_attribute("alt")
        page.wait_for_function(
            "image => image.complete && image.naturalWidth > 200", arg=images.nth(number).element_handle()
        )
    assert _overflow(page) <= 0
    page.wait_for_selector("#files .file-preview", state="detached")
    assert app.wait_for_files(0) == []
    assert violations(page, axe) == []
    viewer = page.frames[1]
    viewer.wait_for_selector("body[data-layer]")
    assert violations(viewer, axe) == []
    assert page.get_attribute("iframe.viewer", "sandbox") == "allow-scripts"


def test_names_are_text_wherever_they_are_shown(open_page, app, tmp_path, slide):
    page = open_page(DESKTOP)
    _ask(page, write_zip(tmp_path / "a.zip", {f"{EVIL}_{number}.png": png(seed=number) for number in range(3)}))
    page.wait_for_selector(".answer", timeout=120_000)
    assert page.inner_text(".answer h2") == EVIL
    assert page.locator(".answer img").count() == 2
    # The name of the file itself, as far as a browser lets it be one.
    odd = tmp_path / "<img src=x onerror=alert(3)>${alert(4)}{{5}}.txt.tiff"
    odd.write_bytes(b"II*\0 no slide")
    _ask(page, odd)
    page.wait_for_selector(".refused", timeout=120_000)
    assert EVIL in page.inner_text(".history")
    assert page.locator("img[src=x]").count() == 0
    assert app.wait_for_files(0) == []


def test_a_bad_file_is_one_clear_line_and_is_deleted_and_takes_the_answer_before_away(open_page, app, slide, bad_files):
    page = open_page(DESKTOP)
    _ask(page, slide)
    page.wait_for_selector(".answer", timeout=120_000)
    page.wait_for_selector("#files .file-preview", state="detached")
    for kind in ("no slide", "wrong tile size", "path out of a zip", "zip bomb", "blank slide"):
        files, words = bad_files[kind]
        _ask(page, *files)
        page.wait_for_function(
            "words => document.querySelector('.refused')?.textContent.includes(words)", arg=words, timeout=120_000
        )
        assert page.locator(".toast-body").count() == 0, "what is said covers nothing"
        assert str(app.folder) not in page.inner_text("body")
        assert page.locator(".answer").count() == 0
        # The file is gone, and the page does not offer it again.
        page.wait_for_selector("#files .file-preview", state="detached")
        assert app.wait_for_files(0) == []
    assert page.locator(".history tbody tr").count() == 1, "the answer, and no refusal"
    assert "Traceback" not in app.said()


@pytest.mark.parametrize(("kind", "words"), [("too large", "maximum"), ("wrong type", "type")])
def test_what_the_page_itself_refuses_is_said_at_once(open_page, app, bad_files, kind, words):
    page = open_page(DESKTOP, expected="413" if kind == "too large" else None)
    page.set_input_files("#files input[type=file]", [str(path) for path in bad_files[kind][0]])
    page.wait_for_selector(".toast-body")
    assert words in page.inner_text(".toast-body")
    toast, title = page.locator(".toast-body").bounding_box(), page.locator("h1").bounding_box()
    assert toast["y"] + toast["height"] <= title["y"], "it stands above the page and covers nothing"
    assert app.wait_for_files(0) == []


def _choose_by_keyboard(page):
    """Open the file chooser with the first tab; on a busy machine Gradio may draw the page anew just then, so try again."""
    for wait, patience in ((1000, 5_000), (3000, 10_000), (6000, 30_000)):
        page.wait_for_timeout(wait)  # Gradio draws its parts twice, and the second time takes the focus away
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
        if focused == "Click to upload or drop files":
            try:
                with page.expect_file_chooser(timeout=patience) as chooser:
                    page.keyboard.press("Enter")
                return chooser.value
            except PlaywrightTimeoutError:
                pass
        page.reload()
        page.wait_for_selector("#files")
    raise AssertionError(f"Tab and Enter on {focused!r} opened no file chooser")


def test_the_keyboard_does_everything(open_page, slide):
    page = open_page(DESKTOP)
    _choose_by_keyboard(page).set_files(str(slide))
    page.wait_for_selector(".answer", timeout=120_000)
    viewer = page.frames[1]
    viewer.wait_for_selector("body[data-layer]")
    for _ in range(12):
        page.keyboard.press("Tab")
        if viewer.evaluate("document.activeElement.id") == "opacity":
            break
    page.keyboard.press("End")
    assert viewer.inner_text("#shown") == "100 %"


def test_two_people_with_the_same_file_each_get_their_answer_and_only_their_own_history(
    open_page, app, slide, tmp_path
):
    mine, theirs = open_page(DESKTOP), open_page(DESKTOP)
    for page in (mine, theirs):
        page.set_input_files("#files input[type=file]", [str(slide)])
    for page in (mine, theirs):
        page.wait_for_selector(".answer", timeout=120_000)
        assert page.inner_text(".answer h2") == "slide 7"
        assert page.locator(".refused").count() == 0
        assert page.locator(".history tbody tr").count() == 1
    _ask(
        mine,
        write_zip(tmp_path / "neighbour.zip", {f"neighbour_{number}.png": png(seed=number) for number in range(3)}),
    )
    mine.wait_for_function("document.querySelectorAll('.history tbody tr').length === 2", timeout=120_000)
    assert "neighbour" in mine.inner_text(".history")
    assert "neighbour" not in theirs.inner_text("body")
    mine.wait_for_selector("#files .file-preview", state="detached")
    assert app.wait_for_files(0) == []
    mine.reload()
    mine.wait_for_selector("#files")
    assert mine.locator(".history").count() == 0, "a new session"


def _multipart(name: str, data: bytes) -> tuple[bytes, str]:
    head = f'--xx\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n--xx--\r\n", "multipart/form-data; boundary=xx"


def test_the_server_itself_refuses_what_is_too_large_and_keeps_no_part_of_it(app):
    status, text = app.post("/gradio_api/upload", *_multipart("a.tiff", bytes(3 * 2**20 + 1)))
    assert (status, "exceeded" in text) == (413, True)
    # Many files, each of which is small enough.
    part = _multipart("a.tiff", bytes(2 * 2**20))[0].removesuffix(b"--xx--\r\n")
    status, text = app.post("/gradio_api/upload", part * 3 + b"--xx--\r\n", "multipart/form-data; boundary=xx")
    assert status == 413, text
    assert app.wait_for_files(0) == []


def test_an_upload_that_is_broken_off_leaves_nothing(app):
    body, kind = _multipart("a.tiff", bytes(2**20))
    with socket.create_connection(("127.0.0.1", app.port)) as connection:
        head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[: 2**19])
        assert len(app.wait_for_files(1)) == 1, "it began to write"
    assert app.wait_for_files(0) == []


def test_a_client_cannot_name_files_of_the_server_or_addresses(app, checkpoint):
    for path in (str(checkpoint), "/etc/passwd", "http://192.0.2.7/slide.png"):
        for payload in ([{"path": path} | FILE], {"root": [{"deep": [{"path": path, "url": path} | FILE]}]}):
            assert "this is not an uploaded file; upload the file on the page" in app.ask(payload)
    assert checkpoint.exists()
    assert "192.0.2.7" not in (app.outside.read_text() if app.outside.exists() else "")
    for path, kind in (("/gradio_api/queue/join", "text/plain"), ("/gradio_api/run/predict", "application/json")):
        assert app.post(path, b'{"data": [{"path": "/etc/passwd"}]}', kind)[0] == 400
    assert app.post("/gradio_api/queue/join", b"[" * 100_000, "application/json") == (
        400,
        '{"detail":"the request is not valid JSON"}',
    )
    assert app.post("/gradio_api/queue/join", b" " * 2_000_000, "application/json")[0] == 400
    assert app.get(f"/gradio_api/file={checkpoint}").startswith('{"detail"')
    assert app.wait_for_files(0) == []


def test_a_type_that_is_not_read_is_refused_also_without_the_page(app):
    status, text = app.post("/gradio_api/upload", *_multipart("run.exe", b"MZ"))
    assert status == 200
    (path,) = json.loads(text)
    assert "run.exe has the type .exe; supported types" in app.ask([{"path": path} | FILE])
    assert app.wait_for_files(0) == []


def test_one_slide_is_answered_at_a_time(app, slide):
    def watch(session: str) -> tuple[float, float]:
        """Return when the answer of a session was begun and when it was there."""
        connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=120)
        connection.request("GET", f"/gradio_api/queue/data?session_hash={session}")
        began = 0.0
        with closing(connection), connection.getresponse() as lines:
            for line in lines:
                if b'"process_starts"' in line:
                    began = time.monotonic()
                if b'"process_completed"' in line:
                    assert b'"success":true' in line
                    return began, time.monotonic()
        raise AssertionError("no answer came")

    sessions = ["first", "second", "third"]
    with ThreadPoolExecutor(len(sessions)) as threads:
        for session in sessions:
            body, kind = _multipart("slide.tiff", slide.read_bytes())  # all the same
            (path,) = json.loads(app.post("/gradio_api/upload", body, kind)[1])
            assert app.join([{"path": path} | FILE], session)[0] == 200
        times = sorted(threads.map(watch, sessions))
    for (before, ended), (began, _) in pairwise(times):
        # One after the other, not all at once: the messages of different answers may be read with a delay.
        assert began > (before + ended) / 2
    assert app.wait_for_files(0) == []


# An upload that begins and then comes a byte at a time.
SLOW_UPLOAD = (
    b"POST /gradio_api/upload HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: multipart/form-data; boundary=xx\r\n"
    b"content-length: 100000\r\n\r\n"
) + _multipart("slow.tiff", b"II*\0")[0].removesuffix(b"\r\n--xx--\r\n")


def test_two_hundred_slow_clients_keep_nobody_out(app):
    with SlowClients(app.port, 200, (SILENT, HALF_HEADERS, SLOW_UPLOAD)):
        for _ in range(5):
            assert ask(app.port, "/config", timeout=5)[0] == 200
            status, text = app.post("/gradio_api/upload", *_multipart("run.exe", b"MZ"))
            assert status == 200
            (path,) = json.loads(text)
            assert "run.exe has the type .exe" in app.ask([{"path": path} | FILE])
    assert app.wait_for_files(0) == []


def test_streams_that_nobody_ends_keep_nobody_out(app):
    opening = b"GET /gradio_api/heartbeat/abc HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
    with SlowClients(app.port, 150, (opening,), seconds=60):
        time.sleep(0.5)
        assert ask(app.port, "/config", timeout=10)[0] == 200


def test_told_to_end_it_leaves_nothing_and_it_never_left_its_host(app):
    app.post("/gradio_api/upload", *_multipart("forgotten.tiff", b"II*\0"))
    assert len(app.wait_for_files(1)) == 1
    with SlowClients(app.port, 6, (SILENT, HALF_HEADERS, SLOW_UPLOAD)):
        time.sleep(0.5)
        assert app.stop() == 143
    assert "Traceback" not in app.said()
    assert app.files() == []
    assert list(app.folder.glob("milpath*")) == list(app.cwd.iterdir()) == []
    assert not app.outside.exists(), app.outside.read_text()
