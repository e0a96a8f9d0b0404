#!/usr/bin/env bash
# Starts SageMaker's real `serve` (TorchServe, Java 17) on a model.tar.gz in a network namespace and compares its responses.
# Needs root, Java 17 and the environment of check_toolkit.sh.
# usage: scripts/sagemaker/check_torchserve.sh [folder of that environment]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PYTHON=$(realpath -s "${PYTHON:-.venv/bin/python}")
TOOLKIT=$(realpath "${1:-.venv/sagemaker-toolkit}")
"$TOOLKIT/bin/python" -c "import ts" 2>/dev/null || "$TOOLKIT/bin/python" -m pip install --quiet torchserve==0.12.0
# It binds 0.0.0.0 and writes /etc/sagemaker-ts.properties: a separate namespace contains both.
unshare --net --mount --pid --fork --mount-proc bash -c '
    ip link set lo up
    mount -t overlay overlay -o lowerdir=/etc,upperdir="$(mktemp -d -p /dev/shm)",workdir="$(mktemp -d -p /dev/shm)" /etc
    exec "$@"' -- "$PYTHON" scripts/sagemaker/check_torchserve.py "$TOOLKIT"
