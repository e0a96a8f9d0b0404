# Common tasks. Needs Python 3.11 to 3.13, make and a package index.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONWARNINGS ?= default
# Without bytecode caches every process that a test starts recompiles torch and Lightning: 13 s instead of 4 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-fast test-all lint types imports docs pytest pytest-all format bench lock notice sbom clean

# One environment in two stages: runtime dependencies, then development dependencies. Every package comes from a lock file in
# requirements/ and must have one of its hashes: what is installed, the installer itself, and what builds source packages.
SYNC = $(BIN)/uv pip sync --quiet --require-hashes --build-constraints requirements/build.lock --require-build-hashes
PROJECT = $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation

.venv/.runtime: requirements/build.lock requirements/runtime.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/build.lock
	$(SYNC) --python $(BIN)/python requirements/build.lock requirements/runtime.lock
	$(PROJECT) --editable .
	touch $@

.venv/.development: .venv/.runtime requirements/development.lock
	$(SYNC) --python $(BIN)/python requirements/development.lock
	$(PROJECT) --editable .
	touch $@

setup: .venv/.development

demo: .venv/.runtime
	$(BIN)/python -m milpath.train experiment=panda_attention data=synthetic trainer=demo

test: lint types imports pytest

# For the edit loop: tests that need no command, training or browser.
test-fast: setup
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not command"

# Includes the slow tests, as in continuous integration.
test-all: lint types imports pytest-all

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

# The documentation, in site/. Broken links and unknown names are errors; a test builds it the same way.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

pytest: setup
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

pytest-all: setup
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python scripts/benchmark.py train
	$(BIN)/python scripts/benchmark.py load
	$(BIN)/python scripts/benchmark.py predict
	$(BIN)/python scripts/benchmark.py tile
	$(BIN)/python scripts/benchmark.py start
	$(BIN)/python scripts/benchmark.py scale

# Update the lock files; keeps the locked versions that pyproject.toml still allows. All of them hold one version of a package.
LOCK = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet
lock: .venv/.runtime
	$(LOCK) pyproject.toml --all-extras --group pyproject.toml:build --output-file requirements/development.lock
	$(LOCK) pyproject.toml --constraint requirements/development.lock --output-file requirements/runtime.lock
	$(LOCK) --group pyproject.toml:image --constraint requirements/development.lock --output-file requirements/image.lock
	$(LOCK) --group pyproject.toml:build --constraint requirements/development.lock --output-file requirements/build.lock
	$(LOCK) --python-version 3.12 pyproject.toml --extra backbones --group pyproject.toml:training-image --constraint requirements/development.lock --output-file requirements/training-image.lock

# The licences of what an installation and the serving image hold, in NOTICE. Needs Linux, whose packages are listed.
notice: setup
	$(BIN)/python scripts/notice.py

# A CycloneDX bill of materials of the runtime dependencies, or of an image (SBOM_LOCK=requirements/training-image.lock), from
# an environment that holds nothing else.
SBOM ?= build/sbom.json
SBOM_LOCK ?= requirements/runtime.lock
sbom: setup
	mkdir -p $(dir $(SBOM))
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SBOM).venv
	$(SYNC) --python $(SBOM).venv/bin/python $(SBOM_LOCK)
	PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible --output-format JSON \
		--output-file $(SBOM) $(SBOM).venv/bin/python
	rm -rf $(SBOM).venv

clean:
	rm -rf .venv build dist site .pytest_cache .mypy_cache .ruff_cache
