#!/usr/bin/env bash
# Train on several nodes of a SLURM cluster, one process per GPU:
#   sbatch --nodes=2 scripts/train_slurm.sh experiment=panda_attention data.tiles=train.zip data.labels=train.csv
# Lightning reads ranks and addresses from SLURM. The number of tasks per node must equal the number of devices. When submitted
# again with the same RUN_NAME (or requeued after preemption), the run resumes from its last checkpoint.
#SBATCH --job-name=milpath
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
export OMP_NUM_THREADS=1
# A bag store is built once per node: put it on a fast local disk or on a shared one.
export MILPATH_STORES_DIR=${MILPATH_STORES_DIR:-$PWD/stores}
srun "${PYTHON:-python}" -m milpath.train "$@" \
    trainer=ddp trainer.devices="$SLURM_NTASKS_PER_NODE" trainer.num_nodes="$SLURM_NNODES" \
    run_name="${RUN_NAME:-slurm_$SLURM_JOB_ID}" resume_from=auto
