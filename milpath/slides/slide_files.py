"""Slides of a folder by name, and the part of them that belongs to a shard."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from milpath.slides.readers.open_slide import SLIDE_SUFFIXES

_MASK_ENDING = "_mask"


@dataclass
class SlideFiles:
    """Slides found in a folder and its subfolders.

    Attributes:
        found: Name of a slide (its file name without the suffix) to its file, sorted by name.
        broken: Name to the reason why there is no single file to read: two files with the same name, or a broken link.
        ignored: Files whose suffix is not that of a slide.
    """

    found: dict[str, Path] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    ignored: list[Path] = field(default_factory=list)


def find_slides(root: Path, leave_out: Path | None = None) -> SlideFiles:
    """Return the slides of a folder and its subfolders, or a single slide if the path is a file.

    Links are followed, but each folder is entered only once, so that a link to a parent folder ends there.

    Args:
        root: A folder or a slide.
        leave_out: A folder that is not searched (the output may be among the slides).

    Raises:
        FileNotFoundError: If the path does not exist.
    """
    if not root.exists():
        raise FileNotFoundError(f"no slides at {root}; give the folder of the slides, or one slide")
    paths = [root] if root.is_file() else sorted(_walk(root, leave_out))
    files, by_name = SlideFiles(), defaultdict(list)
    for path in paths:
        if path.suffix.lower() in SLIDE_SUFFIXES or path == root:
            by_name[unicodedata.normalize("NFC", path.stem)].append(path)
        else:
            files.ignored.append(path)
    for name, same in sorted(by_name.items()):
        reason = _why_broken(name, same)
        if reason:
            files.broken[_printable(name)] = reason
        else:
            files.found[name] = same[0]
    return files


def find_masks(root: Path) -> dict[str, Path]:
    """Return a mapping from slide name to mask: `{name}_mask.tiff`, as in PANDA, or a file named like the slide.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If two masks have the same name.
    """
    files = find_slides(root)
    if files.broken:
        name, reason = next(iter(files.broken.items()))
        raise ValueError(f"mask {name!r} in {root}: {reason}")
    return {name.removesuffix(_MASK_ENDING): path for name, path in files.found.items()}


def parse_shard(text: str) -> tuple[int, int]:
    """Return index and count of `i/n`.

    Counting from 1 (1/4 to 4/4) and from 0 (0/4 to 3/4) both cover all slides: 0/4 equals 4/4.

    Raises:
        ValueError: If the text does not have this form.

    Example:
        >>> parse_shard("3/16"), parse_shard("16/16"), parse_shard("0/16")
        ((3, 16), (0, 16), (0, 16))
    """
    index, slash, count = text.partition("/")
    if (
        not (slash and index.strip().isdecimal() and count.strip().isdecimal())
        or not 0 <= int(index) <= int(count) >= 1
    ):
        raise ValueError(f"shard={text} must be i/n with i from 1 to n, such as shard=3/16")
    return int(index) % int(count), int(count)


def _walk(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    """Yield every file below a folder, except hidden ones."""
    entered: set[tuple[int, int]] = set()
    unwanted = leave_out.resolve() if leave_out else None
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent)
        status = here.stat()
        if (status.st_dev, status.st_ino) in entered or here.resolve() == unwanted:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        # In a fixed order, so that every machine takes the same of two paths to one folder.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in names if not name.startswith("."))


def _why_broken(name: str, paths: list[Path]) -> str | None:
    """Return why a slide cannot be read as one file, `None` if it can."""
    if len(paths) > 1:
        return f"{len(paths)} files have this name: {', '.join(_printable(str(path)) for path in paths[:4])}"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "the name of the file is not valid UTF-8; rename it"
    try:
        paths[0].stat()
    except OSError as error:
        return f"{paths[0]} is a broken link ({error.strerror})"
    return None


def _printable(text: str) -> str:
    """Return text that can always be written; bytes that are not valid text are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
