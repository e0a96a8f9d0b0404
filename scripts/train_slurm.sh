#!/usr/bin/env bash
# Train on several machines of a SLURM cluster, one process a GPU:
#   sbatch --nodes=2 scripts/train_slurm.sh experiment=panda_attention data.tiles=train.zip data.labels=train.csv
# Lightning reads ranks and addresses from SLURM. The tasks of a node must be as many as its devices. Submitted again with
# the same RUN_NAME (and by --requeue after preemption) the run goes on from its last checkpoint.
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
# A bag store is built once on each machine: put it where that machine is fast, or on a disk that all share.
export MILPATH_STORES_DIR=${MILPATH_STORES_DIR:-$PWD/stores}
srun "${PYTHON:-python}" -m milpath.train "$@" \
    trainer=ddp trainer.devices="$SLURM_NTASKS_PER_NODE" trainer.num_nodes="$SLURM_NNODES" \
    run_name="${RUN_NAME:-slurm_$SLURM_JOB_ID}" resume_from=auto
