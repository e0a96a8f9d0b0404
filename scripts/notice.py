"""Write NOTICE: the licence of every package that an installation or the serving image on Linux holds.

Versions come from the lock files in requirements/, licences from the metadata of the installed packages, so this runs in the
environment of `make setup` on Linux: `make notice`.
"""

import importlib.metadata
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from license_expression import Licensing, get_spdx_licensing
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
SECTIONS = {
    "image": "In the serving image (scripts/sagemaker/Dockerfile)",
    "runtime": "In an installation of milpath without extras, for example in a training image",
}

# Licences that ask for no more than their text and the names of the authors; and MPL-2.0, which covers only its own files.
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause",
    "BSD-4.3TAHOE", "blessing", "BSL-1.0", "CC0-1.0", "HPND", "IJG", "ISC", "libpng-2.0", "libtiff",
    "LicenseRef-Public-Domain", "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
}  # fmt: skip
# Licences that are accepted for the packages named, and what follows from them.
EXCEPTIONS = {
    "LGPL-2.1-only": ("openslide-bin", "openslide-python"),
    "LGPL-2.1-or-later": ("openslide-bin",),
    "LicenseRef-NVIDIA-Proprietary": ("nvidia-",),
}
# A package without any file, so that it has no licence to state.
WITHOUT_FILES = {"cuda-toolkit": "LicenseRef-NVIDIA-Proprietary"}
# What packages write instead of an identifier of SPDX.
SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "NVIDIA Proprietary Software": "LicenseRef-NVIDIA-Proprietary",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
HEAD = """milpath
Copyright The milpath authors
Licensed under the Apache License, Version 2.0 (see LICENSE).

An installation, or a container image, also holds the packages listed below, each under the licence that its metadata state;
the texts are in the packages. "BSD" is written where a package does not say which. Several versions are listed where the
version depends on that of Python.

OpenSlide (openslide-bin, openslide-python) is under the LGPL 2.1: it is loaded as a separate, replaceable library. Whoever
passes it on in an image passes on its licence and the offer of its source code. The serving image does not hold it.

The wheels of numpy, scipy, scikit-learn and imagecodecs hold runtime libraries of GCC: libgomp and libgfortran are under the
GPL 3 with the GCC Runtime Library Exception, libquadmath is under the LGPL 2.1.

The packages nvidia-* are not free software: NVIDIA's licence permits their redistribution as part of an application. Builds
of torch for CPUs do not need them.

The package itself holds OpenSeadragon 6.1.1 for the pages of predicted slides, in milpath/inference/slide_page/assets, under
the BSD-3-Clause licence beside it. Copyright (C) 2009 CodePlex Foundation, (C) 2010-2025 OpenSeadragon contributors.

The base image python:3.12-slim adds CPython (PSF-2.0) and packages of Debian, some under the GPL, whose licences are in
/usr/share/doc/*/copyright of the image.

Written by `make notice` from the lock files in requirements/ and the metadata of the packages.
"""


def main() -> None:
    try:
        text = notice()
    except ValueError as error:
        sys.exit(f"ValueError: {error}")
    (REPOSITORY / "NOTICE").write_text(text, encoding="utf-8")


def notice() -> str:
    """Return the text of NOTICE.

    Raises:
        ValueError: Naming every package whose licence is unknown or not accepted.
    """
    sections, faults = [], []
    for name, title in SECTIONS.items():
        rows = []
        for package, versions in locked_on_linux(REPOSITORY / "requirements" / f"{name}.lock").items():
            try:
                rows.append((package, ", ".join(versions), accepted(package, licence_of(package))))
            except importlib.metadata.PackageNotFoundError:
                faults.append(f"{package} is not installed (run make setup on Linux)")
            except ValueError as error:
                faults.append(str(error))
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [f"{package:<{widths[0]}}  {version:<{widths[1]}}  {text}" for package, version, text in rows]
        sections.append("\n".join([title, "-" * len(title), *lines, ""]))
    if faults:
        raise ValueError("; ".join(sorted(set(faults))))
    return "\n".join([HEAD, *sections])


def locked_on_linux(path: Path) -> dict[str, list[str]]:
    """Return the versions of each package of a lock file that are installed on Linux, in the order of the file."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"[a-z0-9]", line):
            requirement = Requirement(line.removesuffix("\\").strip())
            if requirement.marker is None or any(map(requirement.marker.evaluate, linux_environments())):
                found.setdefault(requirement.name, []).append(str(requirement.specifier).removeprefix("=="))
    return found


def linux_environments() -> Iterable[dict[str, str]]:
    for version in PYTHON_VERSIONS:
        for machine in MACHINES:
            yield {
                "implementation_name": "cpython",
                "os_name": "posix",
                "platform_machine": machine,
                "platform_python_implementation": "CPython",
                "platform_system": "Linux",
                "python_full_version": f"{version}.0",
                "python_version": version,
                "sys_platform": "linux",
            }


def licence_of(package: str) -> str:
    """Return the licence that the metadata of an installed package state: an expression of SPDX, or "BSD".

    Raises:
        PackageNotFoundError: If the package is not installed.
        ValueError: If it states nothing that is known.
    """
    distribution = importlib.metadata.distribution(package)
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") or [] if "License ::" in text]
    for stated in (metadata.get("License"), " OR ".join(SPELLINGS.get(name, name) for name in classifiers)):
        text = SPELLINGS.get(stated or "", stated or "")
        if identifiers(text) <= ALLOWED | EXCEPTIONS.keys() and text:
            return text
    if package in WITHOUT_FILES and all(".dist-info" in file.parts[0] for file in distribution.files or []):
        return WITHOUT_FILES[package]
    raise ValueError(f"{package} states no known licence: License={metadata.get('License')!r}, {classifiers}")


def identifiers(expression: str) -> set[str]:
    """Return the licences that an expression names, exceptions with the licence they belong to."""
    return {part for part in re.split(r"\s+(?:AND|OR)\s+|[()]", expression.strip()) if part.strip()}


@cache
def spdx() -> Licensing:
    return get_spdx_licensing()


def accepted(package: str, expression: str) -> str:
    """Return the licence of a package if it may be passed on.

    Raises:
        ValueError: If every choice that the expression leaves holds a licence that is not accepted, such as the GPL.
    """
    fine = ALLOWED | {name for name, packages in EXCEPTIONS.items() if package.startswith(packages)}
    if package in WITHOUT_FILES:
        fine |= {WITHOUT_FILES[package]}
    licensing = spdx()
    parsed = licensing.parse(expression)
    left = parsed.subs({symbol: licensing.TRUE for symbol in parsed.symbols if symbol.render() in fine}, simplify=True)
    if left != licensing.TRUE:
        raise ValueError(f"{package} is under {expression}, and {left} is not accepted (scripts/notice.py, ALLOWED)")
    return expression


if __name__ == "__main__":
    main()
