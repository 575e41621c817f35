#!/bin/bash
# Train on 1 to N nodes of a Slurm cluster, one process for each GPU. The job resumes by itself after a preemption or
# when its time limit is reached.
#
#   sbatch --nodes=2 --gpus-per-node=4 --ntasks-per-node=4 scripts/slurm/train.sh \
#     --config ldip_basicvsr_x4 --workdir /shared/runs/basicvsr_x4 --config.batch_size=8
#
# Everything after the script goes to `ldip train`. --workdir must be on a file system that all nodes see, and
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
# Sent to every process two minutes before the time limit: it finishes its step, saves and exits with code 138.
#SBATCH --signal=USR1@120

set -u
cd "${SLURM_SUBMIT_DIR:?start this with sbatch}" || exit

# Slurm itself requeues preempted jobs; this script requeues jobs out of time; cancelled jobs are not requeued.
srun --kill-on-bad-exit=1 "${PYTHON:-.venv/bin/python}" -u -m ldip_jax.cli.main train "$@"
code=$?
if [ "$code" -eq 138 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
