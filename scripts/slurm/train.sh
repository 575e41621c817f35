#!/bin/bash
# Train on 1 to N nodes of a Slurm cluster, one process for each GPU; goes on by itself after a preemption or the
# end of its time.
#
#   sbatch --nodes=2 --gpus-per-node=4 --ntasks-per-node=4 scripts/slurm/train.sh \
#     --config configs/ldip_basicvsr_x4.py --workdir /shared/runs/basicvsr_x4 --config.batch_size=8
#
# Everything after the script goes to train.py. --workdir must be on a file system that all nodes see, and
# config.batch_size a multiple of nodes x GPUs. One node with one GPU needs no options before the script.
#SBATCH --job-name=ldip
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=ldip-%j.log
# To every process two minutes before the time is up: it finishes its step, saves and ends with code 138.
#SBATCH --signal=USR1@120

set -u
cd "${SLURM_SUBMIT_DIR:?start this with sbatch}" || exit

# Preempted jobs are queued again by Slurm itself, those out of time here, cancelled ones not at all.
srun --kill-on-bad-exit=1 "${PYTHON:-.venv/bin/python}" -u train.py "$@"
code=$?
if [ "$code" -eq 138 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
