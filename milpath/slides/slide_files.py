"""Which slides lie in a folder, by what name, and which of them a shard has to do."""

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
    """Slides below a folder.

    Attributes:
        found: Name of a slide (its file name without the suffix) to its file, sorted by name.
        broken: Name to the reason why there is no one file to read: two files of one name, a link that leads nowhere.
        ignored: Files that are no slides by their suffix.
    """

    found: dict[str, Path] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    ignored: list[Path] = field(default_factory=list)


def find_slides(root: Path, leave_out: Path | None = None) -> SlideFiles:
    """Return the slides of a folder and of the folders in it; or one slide, if that is what the path names.

    Links are followed, each folder is entered once: a link back to a folder above ends there.

    Args:
        root: A folder or a slide.
        leave_out: A folder that is not entered (the output may lie among the slides).

    Raises:
        FileNotFoundError: If there is nothing at the path.
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
    """Return name of a slide to its mask: `{name}_mask.tiff`, as in PANDA, or a file of the slide's own name.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If two masks have one name.
    """
    files = find_slides(root)
    if files.broken:
        name, reason = next(iter(files.broken.items()))
        raise ValueError(f"mask {name!r} in {root}: {reason}")
    return {name.removesuffix(_MASK_ENDING): path for name, path in files.found.items()}


def parse_shard(text: str) -> tuple[int, int]:
    """Return index and count of `i/n`.

    Counting from 1 (1/4 to 4/4) and from 0 (0/4 to 3/4) both cover all slides: 0/4 is 4/4.

    Raises:
        ValueError: If it is nothing like that.

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
    """Yield every file below a folder, hidden ones left out."""
    entered: set[tuple[int, int]] = set()
    unwanted = leave_out.resolve() if leave_out else None
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent)
        status = here.stat()
        if (status.st_dev, status.st_ino) in entered or here.resolve() == unwanted:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        # In a fixed order, so that of two ways to one folder the same is taken on every machine.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in names if not name.startswith("."))


def _why_broken(name: str, paths: list[Path]) -> str | None:
    """Return what keeps a slide from being read as one file."""
    if len(paths) > 1:
        return f"{len(paths)} files have this name: {', '.join(_printable(str(path)) for path in paths[:4])}"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "the name of the file is no valid UTF-8; rename it"
    try:
        paths[0].stat()
    except OSError as error:
        return f"{paths[0]} is a link that leads nowhere ({error.strerror})"
    return None


def _printable(text: str) -> str:
    """Return text that can be written anywhere; bytes that are no text are shown as such."""
    return text.encode("utf-8", "backslashreplace").decode()
