"""The source archive of a job: the installed version of this library, the job's configuration, pinned requirements."""

import gzip
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path

import milpath
from milpath.config.roots import CONFIG_DIR
from milpath.records.atomic_files import write_bytes
from milpath.records.digests import sha256_of_file

PACKAGE_DIR = Path(milpath.__file__).resolve().parent
JOB_FILE = "job.json"
# Dependencies other than torch, torchvision and numpy, which are part of the image.
PINNED = (
    "lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "pyyaml",
    "pillow",
    "pandas",
    "scipy",
    "scikit-learn",
    "threadpoolctl",
    "filelock",
    "rich",
    "tensorboard",
    "matplotlib",
    "plotly",
    "jinja2",
    "markupsafe",
    "h5py",
    "tifffile",
    "imagecodecs",
    "openslide-python",
    "openslide-bin",
)
TRAINING = "milpath.sagemaker.jobs.training_job"
_PROGRAM = '''"""Started in the container of a SageMaker job."""

from pathlib import Path

from {module} import main

if __name__ == "__main__":
    main(Path(__file__).parent)
'''


def write_source(
    path: Path,
    overrides: Sequence[str],
    config_dirs: Sequence[Path] = (),
    requirements: str | None = None,
    own_code: Mapping[str, bytes] | None = None,
    program: str = "train.py",
    module: str = TRAINING,
    further: Sequence[str] = (),
) -> str:
    """Write the archive that a job unpacks and starts.

    Equal content gives equal bytes, so an archive is identified by its hash.

    Args:
        path: Output path, `.tar.gz`.
        overrides: Overrides of `milpath.train`, applied inside the job.
        config_dirs: Folders with the user's own configuration files (`--config-dir`).
        requirements: Path of a file with pinned packages, "smddp" for those tested with AWS's last SMDDP image, "image" for
            none, or None for the versions installed here.
        own_code: Files of the user's own classes, by path relative to the working folder.
        program: File that the job starts.
        module: Module whose `main` it calls with the folder of the archive.
        further: Packages to pin beside those of every job.

    Returns:
        The first 16 hex digits of the archive's SHA-256.

    Raises:
        FileNotFoundError: If the requirements file does not exist.
        ValueError: If a file of the user has the name of one that the job needs.
    """
    content = {f"milpath/{name}": data for name, data in read_folder(PACKAGE_DIR).items()}
    content |= {f"milpath/configs/{name}": data for name, data in read_folder(CONFIG_DIR).items()}
    for number, folder in enumerate(config_dirs):
        content |= {f"configs_{number}/{name}": data for name, data in read_folder(folder).items()}
    job = {"overrides": list(overrides), "config_dirs": [f"configs_{number}" for number in range(len(config_dirs))]}
    content[JOB_FILE] = (json.dumps(job, indent=2) + "\n").encode()
    # Gives the library its version inside the job, where it is not installed.
    own = _installed("milpath")
    metadata = f"Metadata-Version: 2.1\nName: milpath\nVersion: {own}\n"
    content[f"milpath-{own}.dist-info/METADATA"] = metadata.encode()
    content[program] = _PROGRAM.format(module=module).encode()
    content["requirements.txt"] = _requirements(requirements, further).encode()
    if taken := sorted(content.keys() & (own_code or {}).keys()):
        raise ValueError(
            f"a job needs a {taken[0]} of its own; rename your file {taken[0]}, which the configuration names"
        )
    write_bytes(path, archive(content | dict(own_code or {})))
    return sha256_of_file(path)[:16]


def archive(content: Mapping[str, bytes]) -> bytes:
    """Return a `.tar.gz` of files sorted by name, without times or owners."""
    tar = BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name in sorted(content):
            entry = tarfile.TarInfo(name)
            entry.size = len(content[name])
            entry.mode = 0o644
            file.addfile(entry, BytesIO(content[name]))
    return _gzip(tar.getvalue())


def read_folder(folder: Path, suffixes: Iterable[str] = ()) -> dict[str, bytes]:
    """Return the files of a folder by relative name, without caches.

    Args:
        folder: The folder, read recursively.
        suffixes: Suffixes of the files to include; empty for all.
    """
    chosen = tuple(suffixes)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and (not chosen or path.suffix in chosen)
    }


def _gzip(data: bytes) -> bytes:
    """Compress without a timestamp in the header."""
    return gzip.compress(data, mtime=0)


def _requirements(path: str | None, further: Sequence[str]) -> str:
    """Return the pinned packages of a job."""
    if path == "image":
        return ""
    if path == "smddp":
        return (PACKAGE_DIR / "sagemaker" / "jobs" / "requirements_smddp.txt").read_text()
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"sagemaker.requirements={path} does not exist; give a file with pinned packages")
        return Path(path).read_text()
    return "".join(f"{name}=={_installed(name)}\n" for name in (*PINNED, *further))


def _installed(name: str) -> str:
    """Return the installed version, without a local label such as +cpu."""
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        raise ValueError(
            f"{name} is not installed here, so its version cannot be pinned; run: pip install milpath"
        ) from None
