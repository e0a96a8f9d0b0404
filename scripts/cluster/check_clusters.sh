#!/usr/bin/env bash
# The manifest and the SLURM script of this repository with two hosts in network namespaces: two pods as Kubeflow's operator
# starts them, then the two nodes of a real SLURM. Needs root, Linux and the packages below; takes about 20 minutes.
# usage: scripts/cluster/check_clusters.sh [options of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
for tool in ip slurmctld slurmd srun munged; do
    PATH=$PATH:/usr/sbin command -v $tool >/dev/null || {
        echo "needs $tool; run: apt-get install iproute2 slurmctld slurmd slurm-client munge" >&2
        exit 1
    }
done
OMP_NUM_THREADS=1 "$PYTHON" -m pytest -q -p no:cacheprovider -W default --durations=10 "$@" \
    scripts/cluster/check_pods.py scripts/cluster/check_slurm.py
