"""What all tests share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; a run without it must fail, or nobody would see that half the tests did not run."""
    folder = Path(os.environ.get("MILPATH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.fail(f"no test data at {folder}; set MILPATH_SHARED_DATA to the folder with panda_pixels, ucsb_breast, ...")
    return folder
