"""A report as PDF, printed by the Chromium or Chrome of the machine, if there is one."""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from milpath.records.atomic_files import write_bytes
from milpath.records.error_text import one_line_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
TIMEOUT_SECONDS = 120.0
_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pdf-header-footer",
    # The page fetches nothing, and its own policy forbids it to; a browser that tries anyway finds no host.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=http://127.0.0.1:9",
)


def find_browser() -> str | None:
    """Return the path of the first Chromium or Chrome on the path; `None` without one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def print_page(page: Path, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """Print a report of milpath as PDF beside it, and return one line: where it is, or why there is none.

    The browser runs without a window and without a network, with a profile of its own that is deleted afterwards, loads
    only this file, and is ended after a while. As root it runs without its sandbox, which root cannot have: print reports
    that this library wrote, not pages from elsewhere.

    Args:
        page: `report.html`.
        timeout_seconds: When the browser is ended.

    Raises:
        FileNotFoundError: If there is no such page.
        OSError: If the PDF cannot be written.
    """
    if not page.is_file():
        raise FileNotFoundError(f"no page at {page}; write the report first")
    target = page.with_suffix(".pdf")
    missing = f"no {target.name} beside {page}"
    browser = find_browser()
    if browser is None:
        return f"{missing}: no Chromium or Chrome on this machine; open the page and print it in a browser"
    with tempfile.TemporaryDirectory(prefix="milpath_print_", ignore_cleanup_errors=True) as scratch:
        printed = Path(scratch) / "page.pdf"
        sandbox = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
        profile = f"--user-data-dir={Path(scratch) / 'profile'}"
        words = [browser, *_FLAGS, *sandbox, profile, f"--print-to-pdf={printed}", page.resolve().as_uri()]
        failure = _run(words, timeout_seconds)
        content = printed.read_bytes() if printed.is_file() else b""
    if not content.startswith(b"%PDF-") or b"%%EOF" not in content[-1024:]:
        return f"{missing}: {Path(browser).name} {failure or 'wrote none'}; open the page and print it in a browser"
    write_bytes(target, content)
    return f"report as PDF: {target}"


def _run(words: list[str], timeout_seconds: float) -> str:
    """Run a browser to its end, and return why it failed; empty if it did not."""
    try:
        process = subprocess.Popen(  # noqa: S603 - the browser of the machine, on a file that this library wrote
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        return f"could not be started ({error.strerror})"
    try:
        _, said = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        return f"did not end within {timeout_seconds:g} s"
    except BaseException:  # Ctrl+C: no browser is left behind
        _end(process)
        raise
    if process.returncode == 0:
        return ""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return f"failed with status {process.returncode}" + (f" ({one_line_of(lines[-1])[:200]})" if lines else "")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a browser with all its processes, which are a group of their own."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.communicate()
