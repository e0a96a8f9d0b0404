#!/usr/bin/env bash
# Train on several nodes of a SLURM cluster, one process per GPU:
#   sbatch --nodes=2 scripts/train_slurm.sh experiment=panda_attention data.tiles=train.zip data.labels=train.csv
# Lightning reads ranks and addresses from SLURM. The number of tasks per node must equal the number of devices.
# A job that is preempted or reaches its time limit saves what it did and is requeued; a cancelled one is not. A new job goes on
# with the run of an earlier one that has the same RUN_NAME.
#SBATCH --job-name=milpath
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# Two minutes before the time limit the tasks are told to save, which takes the rest of a step and seconds.
#SBATCH --signal=TERM@120
set -euo pipefail
export OMP_NUM_THREADS=1
# A bag store is built once per node: put it on a fast local disk or on a shared one.
export MILPATH_STORES_DIR=${MILPATH_STORES_DIR:-$PWD/stores}
# srun returns the highest status of its tasks. A task that fails is to outrank the others, which are then ended by SIGTERM (143).
# 138: ended by SIGUSR1 while it was starting.
task='trap : TERM USR1; "$@"; status=$?; case $status in 0 | 143) ;; 138) status=143 ;; *) status=255 ;; esac; exit $status'
status=0
srun --kill-on-bad-exit=1 bash -c "$task" task "${PYTHON:-python}" -m milpath.train "$@" \
    trainer=ddp trainer.devices="$SLURM_NTASKS_PER_NODE" trainer.num_nodes="$SLURM_NNODES" \
    run_name="${RUN_NAME:-slurm_$SLURM_JOB_ID}" resume_from=auto || status=$?
# SLURM requeues a job by itself when it takes its nodes away at once or loses one. A job that was given time to save (GraceTime,
# the signal above) is still RUNNING here, and would count as failed when this script ends.
if [ "$status" = 143 ] && [ "$(squeue --noheader --format=%T --jobs="$SLURM_JOB_ID")" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
