"""Download PANDA with the Kaggle CLI: `python scripts/get_panda.py --output data/panda [--slides 50] [--masks] --yes`.

Without `--yes` it prints what it would download and stops. It needs a Kaggle account that has accepted the rules at
https://www.kaggle.com/c/prostate-cancer-grade-assessment/rules, `pip install kaggle`, and `kaggle auth login` or the
account's API token (https://www.kaggle.com/settings/api). Slides are downloaded file by file, each
under a temporary name until it is complete: an interrupted download continues where it stopped, and the disk never has to
hold an archive and its content.
"""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

COMPETITION = "prostate-cancer-grade-assessment"
NUM_SLIDES = 10_616
SLIDES_GB = 380
# Some Radboud slides have no mask; the archive holds 10,516 masks.
NUM_MASKS = 10_516
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
TRIES = 3
# Messages of the Kaggle CLI for which a retry is pointless: not logged in, rules not accepted, no such file.
FINAL = re.compile(r"\b40[134]\b|Authentication required")


class Wanted(NamedTuple):
    """A file of the competition and its destination."""

    name: str
    path: Path
    required: bool


def main() -> None:
    options = parse_arguments()
    if shutil.which("kaggle") is None:
        sys.exit("the command 'kaggle' was not found; type: pip install kaggle")
    number = min(options.slides or NUM_SLIDES, NUM_SLIDES)
    size = SLIDES_GB * number / NUM_SLIDES
    masks = f" and their masks ({NUM_SLIDES - NUM_MASKS} of all slides have none)" if options.masks else ""
    print(f"{number:,} slides, about {size:,.1f} GB{masks}, and train.csv, to {options.output}")
    print(
        "PANDA is licensed CC BY-NC-SA 4.0: no commercial use. Cite Bulten et al., Nature Medicine 28, 154-163 (2022)."
    )
    if not options.yes:
        print("Nothing was downloaded; add --yes to start.")
        return
    options.output.mkdir(parents=True, exist_ok=True)
    reason = attempt(Wanted("train.csv", options.output / "train.csv", required=True))
    if reason:
        sys.exit(
            f"train.csv could not be downloaded: {reason}; see the first lines of --help for account, rules and token"
        )
    wanted = list(files_of(options.output, options.slides, options.masks))
    waiting = [file for file in wanted if not file.path.exists()]
    require_room(
        options.output, sum(file.name.startswith("train_images/") for file in waiting) / NUM_SLIDES * SLIDES_GB
    )
    print(f"{len(wanted) - len(waiting):,} of {len(wanted):,} files already exist")
    problems = fetch_all(waiting, options.jobs)
    without = [file.name for file, _ in problems if not file.required]
    failed = [(file.name, reason) for file, reason in problems if file.required]
    if without:
        print(f"{len(without):,} slides have no mask (first: {without[0]})")
    for name, reason in failed:
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if failed:
        sys.exit(f"{len(failed):,} files failed; run the same command again to retry")
    folders = f"slides={options.output / 'train_images'}"
    if options.masks:
        folders += f" masks={options.output / 'train_label_masks'}"
    print(f"All files are complete. Next: python -m milpath.tile {folders} labels={options.output / 'train.csv'} "
          f"output={options.output / 'store'}")  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("data/panda"), help="folder (default: data/panda)")
    parser.add_argument("--slides", type=positive, help="number of slides, spread over the table (default: all)")
    parser.add_argument("--masks", action="store_true", help="also download the masks of cancer and Gleason pattern")
    parser.add_argument("--jobs", type=positive, default=4, help="concurrent downloads")
    parser.add_argument("--yes", action="store_true", help="start")
    return parser.parse_args()


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def files_of(output: Path, slides: int | None, masks: bool) -> Iterator[Wanted]:
    """Yield the files to download; a subset of the slides is spaced evenly over the table, so that all grades occur."""
    with (output / "train.csv").open(encoding="utf-8", newline="") as file:
        names = [row["image_id"] for row in csv.DictReader(file)]
    number = min(slides or len(names), len(names))
    for index in range(number):
        name = names[index * len(names) // number]
        yield Wanted(f"train_images/{name}.tiff", output / "train_images" / f"{name}.tiff", required=True)
        if masks:
            mask = f"{name}_mask.tiff"
            yield Wanted(f"train_label_masks/{mask}", output / "train_label_masks" / mask, required=False)


def require_room(output: Path, size_gb: float) -> None:
    """Stop before the disk is full."""
    free_gb = shutil.disk_usage(output).free / 1e9
    if size_gb > free_gb:
        sys.exit(
            f"about {size_gb:,.0f} GB are needed in {output}, {free_gb:,.0f} GB are free; download fewer: --slides N"
        )


def fetch_all(files: list[Wanted], jobs: int) -> list[tuple[Wanted, str]]:
    """Download files in parallel; return those that failed, with the reason."""
    problems, start = [], time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        for number, (file, reason) in enumerate(pool.map(lambda file: (file, attempt(file)), files), start=1):
            if reason:
                problems.append((file, reason))
            if number % 20 == 0 or number == len(files):
                rate = number / (time.perf_counter() - start)
                hours = (len(files) - number) / rate / 3600
                print(f"{number:,} of {len(files):,} files, {rate:.2f} files/s, {hours:.1f} h left", flush=True)
    return problems


def attempt(file: Wanted) -> str:
    """Download a file, with retries; return the reason if it failed, otherwise None."""
    reason = ""
    for number in range(TRIES):
        try:
            fetch(file)
        except (OSError, RuntimeError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            if FINAL.search(reason):
                break
            if number < TRIES - 1:
                time.sleep(float(os.environ.get("GET_PANDA_PAUSE", "10")))
        else:
            return ""
    return reason


def fetch(file: Wanted) -> None:
    """Download one file and rename it once it is complete."""
    if file.path.exists():
        return
    file.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.path.parent, prefix=".download-") as folder:
        words = ["kaggle", "competitions", "download", COMPETITION, "--file", file.name, "--path", folder, "--quiet"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        found = list(Path(folder).iterdir())
        if done.returncode or len(found) != 1:
            said = (done.stderr + done.stdout).strip().splitlines()
            reasons = [line for line in said if FINAL.search(line)] or said[-1:]
            raise RuntimeError(reasons[0] if reasons else f"the Kaggle CLI downloaded {len(found)} files")
        whole = unpacked(found[0], file.path.name)
        with whole.open("rb") as opened:
            signature = opened.read(4)
        if file.path.suffix == ".tiff" and signature not in TIFF_SIGNATURES:
            raise RuntimeError(f"the download is not a TIFF (it starts with {signature!r})")
        whole.replace(file.path)


def unpacked(path: Path, name: str) -> Path:
    """Return the file itself if Kaggle has packed it into an archive of one file."""
    if not zipfile.is_zipfile(path):
        return path
    target = path.with_name(f"unpacked-{name}")
    with zipfile.ZipFile(path) as archive, archive.open(name) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    return target


if __name__ == "__main__":
    main()
