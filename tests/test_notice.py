"""NOTICE: the licences of what an installation and the serving image hold."""

import importlib.metadata
import re

import pytest

from scripts import notice
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "NOTICE").read_text()


def listed(section: str) -> dict[str, tuple[str, str]]:
    """Return version and licence of every package in a section of NOTICE."""
    rows = TEXT.partition(notice.SECTIONS[section])[2].lstrip("\n-").partition("\n\n")[0].splitlines()
    found = {}
    for row in rows:
        package, version, licence = re.split(r"\s{2,}", row)
        found[package] = (version, licence)
    return found


@pytest.mark.parametrize("section", notice.SECTIONS)
def test_every_locked_package_of_linux_is_listed_with_its_licence(section):
    locked = notice.locked_on_linux(REPOSITORY / "requirements" / f"{section}.lock")
    found = listed(section)
    assert {package: version for package, (version, _) in found.items()} == {
        package: ", ".join(versions) for package, versions in locked.items()
    }, "run make notice"
    assert len(found) > 40
    for package, (_, licence) in found.items():
        assert notice.accepted(package, licence) == licence
        try:
            stated = notice.licence_of(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # another system than Linux
        assert stated == licence, "run make notice"


def test_it_says_what_is_copyleft_and_what_is_not_free():
    assert listed("runtime")["openslide-bin"][1].startswith("LGPL-2.1-only")
    assert "OpenSlide (openslide-bin, openslide-python) is under the LGPL 2.1" in TEXT
    assert not [package for package in listed("image") if package.startswith("openslide")]
    assert "nvidia-* are not free software" in TEXT


@pytest.mark.parametrize(
    "licence",
    ["GPL-3.0-only", "AGPL-3.0-or-later", "MIT AND GPL-2.0-only", "GPL-2.0-only OR AGPL-3.0-only", "LGPL-2.1-only",
     "LicenseRef-NVIDIA-Proprietary", "MIT AND (GPL-3.0-only OR AGPL-3.0-only)", "Elastic-2.0"],
)  # fmt: skip
def test_a_licence_that_is_not_accepted_is_refused_with_the_name_of_the_package(licence):
    with pytest.raises(ValueError, match=r"^somebody is under .* is not accepted"):
        notice.accepted("somebody", licence)


@pytest.mark.parametrize(
    ("package", "licence"),
    [("a", "MIT"), ("a", "MIT OR GPL-3.0-only"), ("a", "Apache-2.0 WITH LLVM-exception AND MIT"),
     ("openslide-bin", "LGPL-2.1-only AND (BSD-3-Clause OR GPL-2.0-only)"), ("nvidia-x", "LicenseRef-NVIDIA-Proprietary")],
)  # fmt: skip
def test_a_licence_that_leaves_an_accepted_choice_is_accepted(package, licence):
    assert notice.accepted(package, licence) == licence


def install(folder, fields: str) -> None:
    metadata = folder / "somebody-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.4\nName: somebody\nVersion: 1.0\n{fields}\n")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("License-Expression: MIT", "MIT"),
        ("License: Apache 2.0\nClassifier: License :: Other/Proprietary License", "Apache-2.0"),
        ("License: a text that fills a page\nClassifier: License :: OSI Approved :: BSD License", "BSD"),
        ("Classifier: License :: OSI Approved :: MIT License", "MIT"),
    ],
)
def test_a_licence_is_read_from_the_metadata_of_a_package(tmp_path, monkeypatch, fields, expected):
    install(tmp_path, fields)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert notice.licence_of("somebody") == expected


@pytest.mark.parametrize(
    "fields", ["", "License: GPL v3", "Classifier: License :: OSI Approved :: GNU General Public License"]
)
def test_a_package_without_a_known_licence_is_refused(tmp_path, monkeypatch, fields):
    install(tmp_path, fields)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="somebody states no known licence"):
        notice.licence_of("somebody")
