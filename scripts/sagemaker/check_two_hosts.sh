#!/usr/bin/env bash
# Two hosts in network namespaces train like one process: torchrun, then SMDDP with Open MPI and a stand-in for the backend.
# Needs root, the packages below and the environment of check_toolkit.sh.
# usage: scripts/sagemaker/check_two_hosts.sh [folder of that environment]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
TOOLKIT=${1:-.venv/sagemaker-toolkit}
for tool in mpirun sshd ip; do
    PATH=$PATH:/usr/sbin command -v $tool >/dev/null || {
        echo "needs $tool; run: apt-get install openmpi-bin openssh-server iproute2" >&2
        exit 1
    }
done
"$TOOLKIT/bin/python" -c "import mpi4py" 2>/dev/null || "$TOOLKIT/bin/python" -m pip install --quiet mpi4py
SAGEMAKER_TOOLKIT=$(realpath "$TOOLKIT") OMP_NUM_THREADS=1 \
    "$PYTHON" -m pytest -q -p no:cacheprovider -W default --durations=5 scripts/sagemaker/check_two_hosts.py
