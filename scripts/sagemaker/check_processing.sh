#!/usr/bin/env bash
# Processing jobs as their containers start them: the very command of the request, once per instance, each in a mount namespace
# with its own /opt/ml/processing, two at a time; only S3 is mocked. Needs root and Linux.
# usage: scripts/sagemaker/check_processing.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
OMP_NUM_THREADS=1 "$PYTHON" -m pytest -q -p no:cacheprovider -W default --durations=5 scripts/sagemaker/check_processing.py
