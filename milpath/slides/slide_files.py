"""Slides of a folder by name, and the part of them that belongs to a shard."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from milpath.records.digests import require_regular_file, walk
from milpath.slides.readers.dicom_header import DicomHeader, is_dicom, read_dicom_header
from milpath.slides.readers.slide_formats import (
    CZI_SUFFIX,
    DICOM_SUFFIX,
    INDEX_SUFFIXES,
    SLIDE_SUFFIXES,
    is_folder_slide,
    why_not_read,
)

_MASK_ENDING = "_mask"
# An index file is a page of text.
_MAX_INDEX = 1 << 20


# Folders of pictures that commands write beside these files: stores, predictions and runs among the slides are no slides.
_PICTURES = {
    "store.json": ("overview", "png"),
    "prediction.json": ("pictures", "dense"),
    "provenance.json": ("report_files",),
}


@dataclass
class SlideFiles:
    """Slides found in a folder and its subfolders.

    Attributes:
        found: Name of a slide (its file name without the suffix) to its file, sorted by name. A DICOM slide of several
            instances has the name of its folder and one of its files.
        broken: Name to the reason why there is no single file to read: two files with the same name, a broken link, or a
            format that has to be converted.
        ignored: Files whose suffix is not that of a slide.
        notes: What to say about files that are left out, one line each.
    """

    found: dict[str, Path] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    ignored: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
    files, by_name, unread = SlideFiles(), defaultdict(list), {}
    if not root.is_dir() or _is_one_slide(root.name):
        by_name[_name_of(root)].append(root)
    else:
        instances: dict[Path, list[Path]] = defaultdict(list)
        parts: set[Path] = set()
        for path in sorted(_walk(root, leave_out)):
            if _may_be_dicom(path):
                instances[path.parent].append(path)
            elif path.suffix.lower() in SLIDE_SUFFIXES:
                by_name[_name_of(path)].append(path)
                parts |= _parts_of(path)
            elif reason := why_not_read(path.name):
                unread[_name_of(path)] = reason
            else:
                files.ignored.append(path)
        for paths in by_name.values():
            paths[:] = [path for path in paths if path not in parts]
        for folder, found in instances.items():
            _add_dicom(folder, found, by_name, files)
        for paths in by_name.values():
            _prefer_converted(paths, files)
    for name, same in sorted(by_name.items()):
        if not same or _printable(name) in files.broken:
            continue
        reason = _why_broken(name, same)
        if reason:
            files.broken[_printable(name)] = reason
        else:
            files.found[name] = same[0]
    for name, reason in sorted(unread.items()):
        if by_name.get(name):  # converted beside its original
            files.notes.append(
                f"{_printable(reason)}; slide {_printable(name)!r} is taken from {by_name[name][0].name}"
            )
        else:
            files.broken[_printable(name)] = _printable(reason)
    return files


def require_slides_dir(slides_dir: str | None) -> None:
    """Refuse a folder of slides that does not exist: what draws them would have no picture of them, without a word.

    Args:
        slides_dir: The option of a command.

    Raises:
        FileNotFoundError: If it is given and there is none.
    """
    if slides_dir is not None and not Path(slides_dir).exists():
        raise FileNotFoundError(f"slides_dir={slides_dir} does not exist; give the folder of the whole slides")


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
    """Yield every file below a folder, except hidden ones and pictures of results.

    A folder that is one slide is yielded itself, or left out.

    Raises:
        OSError: If a folder cannot be read: its slides would be missing without a word.
    """
    entered: set[tuple[int, int]] = set()
    unwanted = leave_out.resolve() if leave_out else None
    for parent, folders, names in walk(folder, follow_links=True, on_error=refuse_folder):
        here = Path(parent)
        status = here.stat()
        if (status.st_dev, status.st_ino) in entered or here.resolve() == unwanted:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        made = {folder for marker, wrote in _PICTURES.items() if marker in names for folder in wrote}
        # The folder of an MRXS slide holds its data.
        data_of = {Path(name).stem for name in names if name.lower().endswith(".mrxs")}
        yield from (here / name for name in folders if _is_one_slide(name) and not name.startswith("."))
        # In a fixed order, so that every machine takes the same of two paths to one folder.
        folders[:] = sorted(
            name
            for name in folders
            if not (name.startswith(".") or name in data_of or name in made or _is_one_slide(name))
        )
        yield from (here / name for name in names if not name.startswith("."))


def refuse_folder(error: OSError) -> None:
    """Raise the error of a folder that cannot be listed, which `walk` would pass over.

    Raises:
        OSError: With the folder and what to do.
    """
    raise OSError(
        f"the folder {error.filename} cannot be read ({error.strerror}), and its files would be left out; allow reading "
        "it, or give a folder without it"
    ) from error


def _is_one_slide(name: str) -> bool:
    """Return whether a folder of this name is a slide, of a format that is read or not."""
    return is_folder_slide(name) or why_not_read(name) is not None


def _name_of(path: Path) -> str:
    """Return the name of a slide."""
    return unicodedata.normalize("NFC", path.stem)


def _may_be_dicom(path: Path) -> bool:
    """Return whether a file is an instance of DICOM, which need not have a suffix."""
    if path.suffix.lower() == DICOM_SUFFIX:
        return True
    try:
        return not path.suffix and path.is_file() and is_dicom(path)
    except OSError:
        return False


def _parts_of(path: Path) -> set[Path]:
    """Return the images that the index file of a Hamamatsu VMS slide names: they are parts of it, not slides."""
    if path.suffix.lower() not in INDEX_SUFFIXES or not path.is_file():
        return set()
    lines = path.read_text(encoding="utf-8", errors="replace")[:_MAX_INDEX].splitlines()
    return {path.parent / value.strip() for _, equals, value in (line.partition("=") for line in lines) if equals}


def _add_dicom(folder: Path, paths: list[Path], by_name: dict[str, list[Path]], files: SlideFiles) -> None:
    """Add the slides of a folder of DICOM instances: the instances of one series are one slide."""
    series: dict[str, list[tuple[Path, DicomHeader]]] = defaultdict(list)
    for path in paths:
        header = _header_of(path)
        if header is not None:
            series[header.series].append((path, header))
    slides = [found for found in series.values() if any(header.is_level for _, header in found)]
    damaged = [path for path in paths if path not in {path for found in series.values() for path, _ in found}]
    files.ignored += [path for found in series.values() if found not in slides for path, _ in found]
    if not any(len(found) > 1 for found in slides):
        for path in damaged:
            by_name[_name_of(path)].append(path)  # refused by its name when it is read
    for found in slides:
        stems = [path.stem for path, _ in found]
        if len(found) == 1:
            name = stems[0]
        elif len(slides) == 1:
            name = folder.resolve().name
        else:
            # Of names, not of folders.
            name = os.path.commonprefix(stems).rstrip(" _-.") or found[0][1].series  # noqa: RUF071
        name = unicodedata.normalize("NFC", name)
        by_name[name].append(next(path for path, header in found if header.is_level))
        if damaged and len(found) > 1:
            # It may be the largest level of this slide, which would be read without it at another resolution.
            files.broken[_printable(name)] = (
                f"{damaged[0].name} in its folder is not a readable instance; copy the folder again, or take the file away"
            )


def _header_of(path: Path) -> DicomHeader | None:
    try:
        return read_dicom_header(path) if path.is_file() else None
    except OSError:
        return None  # a broken link, which is named


def _prefer_converted(paths: list[Path], files: SlideFiles) -> None:
    """Leave out a CZI beside the slide into which it was converted; earlier versions read only the latter."""
    others = [path for path in paths if path.suffix.lower() != CZI_SUFFIX]
    if len(others) == 1 and len(paths) == 2:
        left = next(path for path in paths if path not in others)
        files.notes.append(
            f"{_printable(left.name)} is left out: slide {_printable(_name_of(left))!r} is taken from "
            f"{_printable(others[0].name)}"
        )
        paths[:] = others


def _why_broken(name: str, paths: list[Path]) -> str | None:
    """Return why a slide cannot be read as one file, `None` if it can."""
    if len(paths) > 1:
        names = ", ".join(_printable(str(path)) for path in paths[:4])
        return f"{len(paths)} files have this name: {names}; rename or remove all but one"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "the name of the file is not valid UTF-8; rename it"
    try:
        require_regular_file(paths[0])
    except OSError as error:
        return f"{paths[0]} is a broken link ({error.strerror})"
    except ValueError as error:
        return _printable(str(error))
    return None


def _printable(text: str) -> str:
    """Return text that can always be written; bytes that are not valid text are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
