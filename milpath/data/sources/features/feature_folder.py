"""Feature files in the folders of TRIDENT, CLAM and STAMP: which file belongs to which slide."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from milpath.records.digests import walk
from milpath.records.label_table import quote_first
from milpath.slides.slide_files import refuse_folder
from milpath.slides.tile_names import folded, require_no_twins

SUFFIXES = (".h5", ".hdf5", ".pt")
# CLAM writes h5_files (with coordinates) next to pt_files (without): two formats of one set of features.
_FORMATS = ("", "h5_files", "pt_files")
_WHOLE_SLIDES = "slide_features_"
_TO_CONVERT = (".npy", ".zarr")


def find_feature_files(path: Path) -> dict[str, Path]:
    """Return the feature file of each slide in a folder and its subfolders, slides sorted by name.

    Hidden files (such as the `._name` of macOS), the coordinates in TRIDENT's folder `patches` and the features of whole
    slides in its folders `slide_features_NAME` are not features of tiles. A slide with several formats in one folder is
    read from `.h5` rather than `.pt`, and from `h5_files` rather than `pt_files`.

    Args:
        path: A folder, or the feature file of a single slide.

    Raises:
        FileNotFoundError: If there are no feature files.
        ValueError: If a slide has features in several folders (one for each encoder, for example), or the names of two
            slides differ only in case or Unicode normalisation.
    """
    if path.is_file() and path.suffix in SUFFIXES:
        return {path.stem: path}
    found: dict[str, dict[str, list[PurePosixPath]]] = {}
    for file in _files(path):
        folder = file.parent
        group = folder.parent if folder.name in _FORMATS[1:] else folder
        found.setdefault(file.stem, {}).setdefault(str(group), []).append(file)
    if not found:
        raise FileNotFoundError(
            f"no .h5 or .pt files at {path}; set data.path=FOLDER with one file of features per slide, "
            f"as written by TRIDENT, CLAM or STAMP{_to_convert(path)}"
        )
    _require_one_folder(path, found)
    require_no_twins(found, map(folded, found), str(path))
    return {name: path / min(*files, key=_preference) if len(files) > 1 else path / files[0]
            for name, groups in sorted(found.items()) for files in groups.values()}  # fmt: skip


def holds_features(path: Path) -> bool:
    """Return whether a path is a feature file, or a folder with at least one in it or its subfolders."""
    if path.is_file():
        return path.suffix in SUFFIXES and not path.name.startswith(".")
    return next(_files(path), None) is not None


def _files(path: Path) -> Iterator[PurePosixPath]:
    """Yield the paths of feature files relative to a folder; a linked folder is entered once."""
    if not path.is_dir():
        return
    seen = set()
    for folder, folders, names in walk(path, follow_links=True, on_error=refuse_folder):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX", _WHOLE_SLIDES)))
        where = Path(folder).relative_to(path)
        for name in sorted(names):
            file = PurePosixPath(where.as_posix(), name)
            if name.startswith(".") or file.suffix not in SUFFIXES or _holds_coordinates(file):
                continue
            if (path / file).is_file():
                yield file


def _holds_coordinates(file: PurePosixPath) -> bool:
    """Return whether a file is one of TRIDENT's `patches/{slide}_patches.h5`: coordinates without features."""
    return file.parent.name == "patches" and file.stem.endswith("_patches")


def _to_convert(path: Path) -> str:
    """Return what to do with arrays in other formats, as torchmil and LazySlide write them; empty if there are none."""
    found = {PurePosixPath(name).suffix for _, folders, names in walk(path) for name in (*folders, *names)}
    other = next((suffix for suffix in _TO_CONVERT if suffix in found), None)
    return f"; write its {other} as {{slide_id}}.h5 with the datasets features and coords" if other else ""


def _preference(file: PurePosixPath) -> tuple[int, int]:
    """Return a key that is smallest for the file to read."""
    name = file.parent.name
    return _FORMATS.index(name) if name in _FORMATS else 0, SUFFIXES.index(file.suffix)


def _branches(groups: Iterable[str]) -> set[str]:
    """Return the folders in which paths begin to differ."""
    parts = [PurePosixPath(group).parts for group in groups]
    shared = 0
    while len({path[: shared + 1] for path in parts}) == 1:
        shared += 1
    return {str(PurePosixPath(*path[: shared + 1])) for path in parts}


def _require_one_folder(path: Path, found: dict[str, dict[str, list[PurePosixPath]]]) -> None:
    """Refuse features of one slide in several folders."""
    several = {name: groups for name, groups in found.items() if len(groups) > 1}
    if not several:
        return
    name = min(several)
    folders = sorted({folder for groups in several.values() for folder in _branches(groups)})
    likely = next((folder for folder in folders if "feat" in folder.casefold()), folders[-1])  # CLAM: FEATURES, RESULTS
    raise ValueError(
        f"{path} has features of {len(several):,} slide(s) in more than one folder (first: {name!r}; folders: "
        f"{quote_first(folders, 12)}); give only one of these folders, such as {path / likely}"
    )
