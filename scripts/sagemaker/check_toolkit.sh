#!/usr/bin/env bash
# Runs jobs of milpath with SageMaker's real training toolkit, from folders laid out like /opt/ml. Needs a C compiler.
# usage: scripts/sagemaker/check_toolkit.sh [folder for the environment]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
TOOLKIT=${1:-.venv/sagemaker-toolkit}
if [ ! -x "$TOOLKIT/bin/train" ]; then
    "$PYTHON" -m venv "$TOOLKIT"
    "$TOOLKIT/bin/python" -m pip install --quiet --upgrade pip wheel "setuptools<81"
    # Use the versions that a job pins, or the first job would reinstall them.
    "$PYTHON" -c "from importlib.metadata import version as v; from milpath.sagemaker.jobs.source_archive import PINNED
for name in PINNED: print(f'{name}=={v(name)}')" > "$TOOLKIT/constraints.txt"
    "$TOOLKIT/bin/python" -m pip install --quiet --constraint "$TOOLKIT/constraints.txt" \
        sagemaker-training==5.1.4 sagemaker-pytorch-training==3.0.0 \
        sagemaker-inference==1.10.1 sagemaker-pytorch-inference==2.0.25 pyyaml
    # The toolkit starts the job with its own Python: make the packages of this library's environment visible to it.
    "$PYTHON" -c "import site; print(site.getsitepackages()[0])" \
        > "$("$TOOLKIT/bin/python" -c "import site; print(site.getsitepackages()[0])")/milpath_environment.pth"
fi
SAGEMAKER_TOOLKIT=$(realpath "$TOOLKIT") OMP_NUM_THREADS=1 \
    "$PYTHON" -m pytest -q -p no:cacheprovider -W default --durations=10 scripts/sagemaker/check_toolkit.py
