"""The lock files in requirements/: everything that is installed is pinned, with the hashes that it must have."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

LOCKS = REPOSITORY / "requirements"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
# What each lock file must satisfy.
ASKED = {
    "runtime": PROJECT["project"]["dependencies"],
    "development": PROJECT["project"]["dependencies"] + [line for lines in EXTRAS.values() for line in lines],
    "image": PROJECT["dependency-groups"]["image"],
    "training-image": PROJECT["project"]["dependencies"]
    + EXTRAS["backbones"]
    + PROJECT["dependency-groups"]["training-image"],
    "build": PROJECT["dependency-groups"]["build"] + PROJECT["build-system"]["requires"],
}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries(name: str) -> list[tuple[Requirement, list[str]]]:
    """Return the requirements of a lock file with what follows each."""
    text = re.sub(r"^\s*#.*\n", "", (LOCKS / f"{name}.lock").read_text(), flags=re.M).replace("\\\n", " ")
    lines = [re.split(r"\s(?=--hash)", line) for line in text.splitlines()]
    return [(Requirement(first.strip()), [word.strip() for word in rest]) for first, *rest in lines]


def versions(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for requirement, _ in entries(name):
        found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier)[2:])
    return found


def test_there_is_a_lock_file_for_everything_that_is_installed():
    assert {path.stem for path in LOCKS.iterdir()} == set(ASKED)


@pytest.mark.parametrize("name", ASKED)
def test_every_locked_package_has_one_version_and_hashes(name):
    found = entries(name)
    assert len(found) >= len(ASKED[name])
    for requirement, hashes in found:
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(HASH.fullmatch(word) for word in hashes), requirement


@pytest.mark.parametrize("name", ASKED)
def test_a_lock_file_names_no_address(name):
    text = (LOCKS / f"{name}.lock").read_text()
    assert "://" not in text
    assert not re.search(r"^-", text, re.M)


@pytest.mark.parametrize("name", ASKED)
def test_the_locked_versions_are_in_the_ranges_of_the_project(name):
    locked = versions(name)
    for line in ASKED[name]:
        asked = Requirement(line)
        if asked.name != "milpath":  # the extra of developers consists of the other extras
            assert locked.get(canonicalize_name(asked.name)), f"{line} is not locked; run make lock"
            assert all(map(asked.specifier.contains, locked[canonicalize_name(asked.name)])), f"{line}; run make lock"


@pytest.mark.parametrize("name", ["runtime", "image", "build"])
def test_what_runs_is_what_is_tested(name):
    tested = versions("development")
    assert {
        package: found for package, found in versions(name).items() if not found <= tested.get(package, set())
    } == {}


def recipe(*targets: str) -> list[str]:
    """Return what `make` would run, whatever is up to date."""
    command = ["make", "--dry-run", "--always-make", *targets]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    output = subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True).stdout
    return output.replace("\\\n", " ").splitlines()


def test_make_installs_only_what_has_a_locked_hash():
    installs = [line for line in recipe("setup", "sbom") if re.search(r"\bpip (install|sync)\b", line)]
    assert len(installs) >= 6
    for line in installs:
        if "--editable ." in line:  # the checkout itself, built by what is installed
            assert "--no-deps" in line
            assert "--no-build-isolation" in line
        else:
            assert "--require-hashes" in line
        if "uv pip sync" in line:
            assert "--require-build-hashes" in line
    assert not any("development" in line for line in recipe("demo"))


def test_the_image_installs_only_what_has_a_locked_hash():
    lines = (REPOSITORY / "scripts/sagemaker/Dockerfile").read_text().splitlines()
    (install,) = (line for line in lines if line.startswith("RUN") and "install" in line)
    assert "--require-hashes" in install
    assert "ARG LOCK=requirements/image.lock" in lines


@pytest.mark.parametrize("right", [True, False])
def test_a_package_with_another_hash_is_refused(tmp_path, right):
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    digest = sha256(wheel.read_bytes() if right else b"another").hexdigest()
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/runtime.lock").write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    (tmp_path / "requirements/build.lock").touch()
    bin_dir = Path(sys.executable).parent
    subprocess.run([bin_dir / "uv", "venv", "--quiet", "--python", sys.executable, tmp_path / ".venv"], check=True)
    (line,) = (line for line in recipe(".venv/.runtime") if "uv pip sync" in line)
    words = line.replace(".venv/bin/uv", str(bin_dir / "uv")).split()
    environment = {
        **os.environ,
        "UV_FIND_LINKS": str(tmp_path),
        "UV_NO_INDEX": "1",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    result = subprocess.run(words, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert (result.returncode == 0) == right, result.stderr
    assert bool(list(tmp_path.glob(".venv/lib/*/site-packages/tiny.py"))) == right
    assert right or "Hash mismatch" in result.stderr


@pytest.mark.slow
def test_the_bill_of_materials_lists_the_runtime_dependencies_and_is_valid(tmp_path):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    path = tmp_path / "sbom.json"
    # The real recipe; `--old-file`: this environment is taken as it is.
    command = ["make", "--old-file=setup", "sbom", f"BIN={Path(sys.executable).parent}", f"SBOM={path}"]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()) is None
    bill = json.loads(path.read_text())
    assert bill["metadata"]["component"]["name"] == "milpath"
    assert bill["metadata"]["component"]["version"] == PROJECT["project"]["version"]
    here = {canonicalize_name(asked.name): str(asked.specifier)[2:]
            for asked, _ in entries("runtime") if asked.marker is None or asked.marker.evaluate()}  # fmt: skip
    assert {canonicalize_name(part["name"]): part["version"] for part in bill["components"]} == here
    (root,) = (entry for entry in bill["dependencies"] if entry["ref"] == bill["metadata"]["component"]["bom-ref"])
    assert len(root["dependsOn"]) == len(ASKED["runtime"])
