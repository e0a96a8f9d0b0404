"""The few small files of a run and of a model archive that a registration reads, wherever they lie."""

import gzip
import json
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from milpath.records.digests import sha256_of_file
from milpath.sagemaker.jobs.aws_account import explained, split_address
from milpath.sagemaker.scoring.score_roads import download

# Metrics, card and identity have kilobytes; more is no such file.
_MAX_BYTES = 16 * 2**20


@dataclass(frozen=True)
class FoundFiles:
    """Files that were looked for in a folder or an archive.

    Attributes:
        place: Where: a path or an address in S3.
        content: Name to content, of those that were found.
        sha256: Digest of the archive; `None` for a folder.
    """

    place: str
    content: dict[str, bytes] = field(default_factory=dict)
    sha256: str | None = None

    def values(self, name: str) -> dict[str, Any]:
        """Return a JSON file as a mapping.

        Args:
            name: Name of the file.

        Raises:
            FileNotFoundError: If it was not found.
            ValueError: If it is not a mapping in JSON, or holds a value that is no finite number.
        """
        if name not in self.content:
            raise FileNotFoundError(f"{self.place} has no {name}; give the folder of a training, or what a job wrote")
        try:
            found = json.loads(self.content[name], parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise ValueError(f"{self.place}: {name} is not JSON ({reason})") from None
        if not isinstance(found, dict):
            raise ValueError(f"{self.place}: {name} must be a mapping, not a {type(found).__name__}")
        return found


def find_files(place: str, names: Sequence[str], account: Any) -> FoundFiles:
    """Read files of a folder or a `.tar.gz`, here or in S3; those that are not there are left out.

    Args:
        place: A folder, a `.tar.gz`, `s3://bucket/name.tar.gz`, or a folder in S3 that ends in `/`.
        names: Names of the files, at the root of the folder or archive.
        account: A boto3 session; used for S3 only.

    Raises:
        FileNotFoundError: If there is nothing at the place.
        ValueError: If the archive is damaged, a file exceeds 16 MiB, or S3 cannot be read.
    """
    if place.startswith("s3://"):
        if place.endswith("/"):
            return FoundFiles(place, _objects(place, names, account))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "archive.tar.gz"
            download(account, place, path)
            return FoundFiles(place, _members(path, names, place), sha256_of_file(path))
    path = Path(place)
    if path.is_file():
        return FoundFiles(place, _members(path, names, place), sha256_of_file(path))
    if not path.is_dir():
        raise FileNotFoundError(f"{place} does not exist; give the folder of a run, or an address in S3")
    found = [path / name for name in names if (path / name).is_file()]
    return FoundFiles(place, {item.name: _small(item.read_bytes(), place, item.name) for item in found})


class _BoundedGzip(gzip.GzipFile):
    """A gzip file that refuses to read many bytes at once, as a tar archive asks for that states a name of gigabytes."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MAX_BYTES + 1:
            raise tarfile.ReadError(f"it states a name of {size or 0:,} bytes")
        return super().read(size)


def _members(path: Path, names: Sequence[str], place: str) -> dict[str, bytes]:
    """Return members of an archive; nothing is unpacked to the disk."""
    found = {}
    try:
        with _BoundedGzip(path) as content, tarfile.open(fileobj=content, mode="r:") as file:
            while (member := file.next()) is not None:
                file.members.clear()  # type: ignore[attr-defined]  # an archive of a few MB may have millions
                name = member.name.removeprefix("./")
                if name in names and member.isfile() and (opened := file.extractfile(member)) is not None:
                    found[name] = _small(opened.read(min(member.size, _MAX_BYTES + 1)), place, name)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{place} is not a whole .tar.gz ({error}); give model.tar.gz or output.tar.gz") from None
    return found


def _objects(place: str, names: Sequence[str], account: Any) -> dict[str, bytes]:
    """Return objects of a folder in S3."""
    from botocore.exceptions import ClientError

    bucket, prefix = split_address(place)
    client, found = account.client("s3"), {}
    for name in names:
        with explained(f"read {place}{name}"):
            try:
                body = client.get_object(Bucket=bucket, Key=f"{prefix}{name}")["Body"]
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    continue
                raise
            found[name] = _small(body.read(_MAX_BYTES + 1), place, name)
    return found


def _small(content: bytes, place: str, name: str) -> bytes:
    """Refuse a file that is too large to be what its name says."""
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{place}: {name} exceeds 16 MiB, which no run writes")
    return content


def _refuse(value: str) -> Any:
    raise ValueError(f"{value} is no finite number")
